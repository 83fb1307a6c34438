export const mlsSchema = ``;
