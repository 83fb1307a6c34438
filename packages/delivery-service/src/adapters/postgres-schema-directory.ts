export const directorySchema = ``;
