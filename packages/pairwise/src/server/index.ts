import { verifyDeviceList as verify } from "../device-list.ts";
import type {
  GenerateCertificateSigner,
  GenerateTrustRoot,
  IssueSenderCertificate,
  ValidateDeviceListUpload,
  ValidatePreKeyUpload,
  VerifyAlternateIdentity,
  VerifyDeviceList,
  VerifyDeviceSignature,
} from "./api.ts";
import * as certificates from "./certificates.ts";
import * as uploads from "./uploads.ts";

export type { DeviceList, ListedDevice, PreKeyUpload, PublicPreKey, SignedPublicPreKey } from "../api.ts";
export type * from "./api.ts";

export const generateTrustRoot: GenerateTrustRoot = certificates.generateTrustRoot;
export const generateCertificateSigner: GenerateCertificateSigner = certificates.generateCertificateSigner;
export const issueSenderCertificate: IssueSenderCertificate = certificates.issueSenderCertificate;
export const validatePreKeyUpload: ValidatePreKeyUpload = uploads.validatePreKeyUpload;
export const validateDeviceListUpload: ValidateDeviceListUpload = uploads.validateDeviceListUpload;
export const verifyAlternateIdentity: VerifyAlternateIdentity = uploads.verifyAlternateIdentity;
export const verifyDeviceList: VerifyDeviceList = verify;
export const verifyDeviceSignature: VerifyDeviceSignature = uploads.verifyDeviceSignature;
