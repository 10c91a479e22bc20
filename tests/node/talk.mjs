// A Node client, of either line of the official TypeScript SDK, told on its command line what to do and to write down
// what came of it: one JSON line an event. {sdk: 1 | 2, way, url, token, word, calls: [{name, arguments}]}

import { setTimeout as pause } from 'node:timers/promises';

const told = JSON.parse(process.argv[2]);
const say = (event, value) => console.log(JSON.stringify({ event, value }));
const authorized = { requestInit: { headers: { Authorization: `Bearer ${told.token}` } } };
const capabilities = { elicitation: {}, sampling: {}, roots: {} };
const asked = {
  'elicitation/create': ({ params }) => (say('asked', params.message), { action: 'accept', content: { word: told.word } }),
  'sampling/createMessage': ({ params }) => (
    say('asked', params.messages[0].content.text), { role: 'assistant', content: { type: 'text', text: told.word }, model: 'm' }
  ),
  'roots/list': () => (say('asked', 'for roots'), { roots: [{ uri: `file:///${told.word}` }] }),
};

async function first() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
  const types = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client({ name: 'node', version: '1' }, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, asked['elicitation/create']);
  client.setRequestHandler(types.CreateMessageRequestSchema, asked['sampling/createMessage']);
  client.setRequestHandler(types.ListRootsRequestSchema, asked['roots/list']);
  const Transport = told.way === '2024-11-05' ? SSEClientTransport : StreamableHTTPClientTransport;
  await client.connect(new Transport(new URL(told.url), authorized));
  return { client, call: (params, options) => client.callTool(params, undefined, options) };
}

async function second() {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const mode = told.way === '2026-07-28' ? { pin: told.way } : 'legacy';
  const client = new Client({ name: 'node', version: '1' }, { capabilities, versionNegotiation: { mode } });
  for (const [method, handler] of Object.entries(asked)) client.setRequestHandler(method, handler);
  await client.connect(new StreamableHTTPClientTransport(new URL(told.url), authorized));
  return { client, call: (params, options) => client.callTool(params, options) };
}

try {
  const { client, call } = await (told.sdk === 1 ? first() : second());
  const { tools } = await client.listTools();
  say('tools', tools.map(({ name }) => name));
  if (told.way === '2025-11-25') await pause(200); // until the session's own stream is open
  for (const params of told.calls) {
    const onprogress = ({ message }) => say('progress', message);
    try {
      say('result', await call(params, { timeout: 5000, onprogress }));
    } catch (error) {
      say('error', { code: error.code ?? null, message: error.message });
    }
  }
  await client.transport.terminateSession?.();
  await client.close();
} catch (error) {
  say('failed', { code: error.code ?? null, message: error.message });
}
process.exit(0);
