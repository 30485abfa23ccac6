// The TypeScript SDK: lists tools, searches, fetches, and reads resources, over stdio or HTTP.
// Arguments: "1" or "2", the generation of the SDK; how it negotiates; then an address and a
// token, or the command to start.
const [generation, negotiation, ...where] = process.argv.slice(2);
const load = async () => {
  if (generation === "1") {
    const parts = ["index", "stdio", "streamableHttp"];
    const found = parts.map((part) => import(`@modelcontextprotocol/sdk/client/${part}.js`));
    return Object.assign({}, ...(await Promise.all(found)));
  }
  const parts = ["", "/stdio"].map((part) => import(`@modelcontextprotocol/client${part}`));
  return Object.assign({}, ...(await Promise.all(parts)));
};
const { Client, StdioClientTransport, StreamableHTTPClientTransport } = await load();

const connect = async (token) => {
  const versionNegotiation = { mode: negotiation };
  const client = new Client({ name: "tests", version: "1" }, { versionNegotiation });
  if (where[0].startsWith("http")) {
    const headers = { Authorization: `Bearer ${token}` };
    const settings = { requestInit: { headers } };
    await client.connect(new StreamableHTTPClientTransport(new URL(where[0]), settings));
  } else {
    const [command, ...args] = where;
    const env = { ...process.env };
    await client.connect(new StdioClientTransport({ command, args, env }));
  }
  return client;
};

const client = await connect(where[1]);
const call = async (name, values) => {
  const result = await client.callTool({ name, arguments: values });
  const text = result.content[0].text;
  return result.isError ? { error: text } : JSON.parse(text);
};
const tools = (await client.listTools()).tools;
const found = await call("search", { query: "harbour", top_k: 3 });
const fetched = await call("fetch", { id: found.results[0].id });
const refused = await call("search", { query: "harbour", top_k: 0 });
const missing = await call("fetch", { id: "retrieval://default/missing.md" });
const resources = [];
let cursor;
do {
  const page = await client.listResources({ cursor });
  resources.push(...page.resources);
  cursor = page.nextCursor;
} while (cursor);
const read = await client.readResource({ uri: resources[0].uri });
const { resourceTemplates } = await client.listResourceTemplates();
const answers = {
  server: client.getServerVersion().name,
  instructions: client.getInstructions(),
  tools: tools.map((one) => one.name),
  readOnly: tools.every((one) => one.annotations.readOnlyHint),
  found,
  fetched,
  refused,
  missing,
  resources: resources.map((one) => [one.uri, one.mimeType]),
  read: read.contents[0],
  templates: resourceTemplates.map((one) => one.uriTemplate),
};
await client.close();
if (where[0].startsWith("http")) {
  answers.stranger = await connect("nonsense").then(
    () => null,
    (error) => `${error.code ?? error.status ?? ""} ${error.message}`,
  );
}
console.log(JSON.stringify(answers));
process.exit(0);
