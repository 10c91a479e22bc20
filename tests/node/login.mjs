// A Node client that knows nothing but a server's address, of either line of the official TypeScript SDK. It writes down
// where its user is to log in, is told on its standard input where the user was sent back to, and makes one call.
// {sdk: 1 | 2, way, url, redirect, dpop: boolean, name, arguments}

import { createInterface } from 'node:readline/promises';

const told = JSON.parse(process.argv[2]);
const say = (event, value) => console.log(JSON.stringify({ event, value }));
const line = createInterface({ input: process.stdin });
const landed = new Promise((resolve) => line.once('line', (text) => resolve(new URL(text).searchParams)));

class Person {
  redirectUrl = told.redirect;
  clientMetadata = {
    redirect_uris: [told.redirect], client_name: 'node', application_type: 'native', token_endpoint_auth_method: 'none',
  };
  constructor(session) { if (session) this.dpop = () => session; }
  clientInformation() { return this.client; }
  saveClientInformation(client) { this.client = client; }
  tokens() { return this.kept; }
  saveTokens(tokens) { this.kept = tokens; }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  redirectToAuthorization(url) { say('login', String(url)); }
}

async function first() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  return { Client: () => new Client({ name: 'node', version: '1' }), Transport: StreamableHTTPClientTransport };
}

async function second() {
  const { Client, StreamableHTTPClientTransport, DpopSession } = await import('@modelcontextprotocol/client');
  const mode = told.way === '2026-07-28' ? { pin: told.way } : 'legacy';
  const make = () => new Client({ name: 'node', version: '1' }, { versionNegotiation: { mode } });
  return { Client: make, Transport: StreamableHTTPClientTransport, session: told.dpop && await DpopSession.create() };
}

try {
  const { Client, Transport, session } = await (told.sdk === 1 ? first() : second());
  const authProvider = new Person(session);
  const transport = () => new Transport(new URL(told.url), { authProvider });
  const before = transport();
  try {
    await Client().connect(before);
    throw new Error('let in without a login');
  } catch (error) {
    if (!authProvider.verifier) throw error;
  }
  await before.finishAuth(told.sdk === 1 ? (await landed).get('code') : await landed);
  say('type', authProvider.kept.token_type);
  const client = Client();
  await client.connect(transport());
  const call = { name: told.name, arguments: told.arguments };
  say('result', await client.callTool(call));
  say('result', await client.callTool(call));
  await client.close();
} catch (error) {
  say('failed', { code: error.code ?? null, message: error.message });
}
process.exit(0);
