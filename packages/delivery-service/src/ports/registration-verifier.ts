/** Decides who may open an account. The claim's form is the verifier's own; an invite code is built in. */
export interface RegistrationVerifier {
  verify(claim: { readonly inviteCode: Uint8Array | undefined }): Promise<"accepted" | "refused">;
}
