// OpenAI's client for Node: embeds texts in each encoding, lists models, and makes mistakes.
// Arguments: base address, key, texts as JSON, name of a model, key without the scope, wrong key.
import OpenAI from "openai";

const [baseURL, apiKey, texts, model, notAllowed, wrong] = process.argv.slice(2);
const connect = (key) => new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const client = connect(apiKey);
const input = JSON.parse(texts);
const vectors = {};
for (const encoding of ["default", "float", "base64"]) {
  const chosen = encoding === "default" ? {} : { encoding_format: encoding };
  const made = await client.embeddings.create({ model: "default", input, ...chosen });
  vectors[encoding] = made.data.map((one) => one.embedding);
}
const query = await client.embeddings.create({ model, input: input[0], input_type: "query" });
const models = [];
for await (const one of client.models.list()) models.push(one.id);

const failure = async (request) => {
  try {
    await request();
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
  return null;
};
const embed = (key, body) => () =>
  connect(key).embeddings.create({ model: "default", input: "a", ...body });
const failures = {
  wrong: await failure(embed(wrong, {})),
  notAllowed: await failure(embed(notAllowed, {})),
  noModel: await failure(embed(apiKey, { model: "defoult" })),
  tokens: await failure(embed(apiKey, { input: [1, 2, 3] })),
};
console.log(JSON.stringify({ vectors, query: query.data[0].embedding, models, failures }));
