// A certified OpenID provider (npm oidc-provider) on loopback, as the file named on the command line says:
// {issuer, port, keys: file with a private JWK set, lifetime, nonce, opaque: [resource], clients: [metadata],
// claims: {subject or client id: extra claims}}. It writes a line for every request: METHOD PATH STATUS.
import { X509Certificate, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { Provider } from 'oidc-provider'

const told = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const cookieKey = randomBytes(32).toString('hex')
const nonceSecret = randomBytes(32)

const extraTokenClaims = (_ctx, token) => {
  const claims = told.claims[token.accountId ?? token.clientId]
  return token.kind === 'ClientCredentials' ? { gty: 'client-credentials', ...claims } : claims
}

const getResourceServerInfo = (_ctx, resource) => ({
  audience: resource,
  scope: 'mcp',
  accessTokenTTL: told.lifetime,
  ...(told.opaque.includes(resource)
    ? { accessTokenFormat: 'opaque' }
    : { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
})

// Its certificate reaches a provider from whatever ends TLS before it; nothing does here, so the client sends its own.
const getCertificate = (ctx) => {
  const sent = ctx.get('x-client-certificate')
  return sent ? new X509Certificate(Buffer.from(sent, 'base64')) : undefined
}

const yes = () => true

// What providers remember, for every one that is opened in this process; what is over is found out by the reader.
const remembered = new Map()

class Memory {
  constructor(model) { this.of = (id) => `${model} ${id}` }
  async upsert(id, payload) { remembered.set(this.of(id), { ...payload }) }
  async find(id) { return remembered.get(this.of(id)) }
  async findByUid(uid) {
    return [...remembered.values()].find((payload) => payload.kind === 'Session' && payload.uid === uid)
  }
  async consume(id) { remembered.get(this.of(id)).consumed = Math.floor(Date.now() / 1000) }
  async destroy(id) { remembered.delete(this.of(id)) }
  async revokeByGrantId(grantId) {
    for (const [key, payload] of remembered) if (payload.grantId === grantId) remembered.delete(key)
  }
}

function opened() {
  return new Provider(told.issuer, {
    adapter: Memory,
    jwks: JSON.parse(readFileSync(told.keys, 'utf8')),
    clients: told.clients,
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    scopes: ['openid', 'offline_access', 'mcp'],
    claims: { openid: ['sub', 'email', 'groups'] },
    cookies: { keys: [cookieKey] },
    extraTokenClaims,
    findAccount: (_ctx, id) => told.claims[id] && { accountId: id, claims: () => ({ sub: id, ...told.claims[id] }) },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: { ClientCredentials: told.lifetime, AccessToken: told.lifetime, Interaction: 600, Session: 600, Grant: 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      registration: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId === 'gateway' },
      revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => client.clientId === token.clientId },
      dPoP: { enabled: true, nonceSecret, requireNonce: () => told.nonce },
      mTLS: { enabled: true, certificateBoundAccessTokens: true, getCertificate },
      resourceIndicators: { enabled: true, getResourceServerInfo, useGrantedResource: yes },
    },
  })
}

let provider = opened()

// A page with one field, `account`: whoever fills it in is logged in, and has then agreed to what was asked for.
async function interact(request, response) {
  if (request.method !== 'POST') {
    response.setHeader('content-type', 'text/html').end('<form method="post"><input name="account"></form>')
    return
  }
  const account = new URLSearchParams(await text(request)).get('account')
  const { prompt, params, session } = await provider.interactionDetails(request, response)
  const result = prompt.name === 'login' ? { login: { accountId: account } } : await agreed(prompt, params, session)
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true })
}

async function agreed({ details }, { client_id: clientId }, { accountId }) {
  const grant = new provider.Grant({ accountId, clientId })
  if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '))
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '))
  }
  return { consent: { grantId: await grant.save() } }
}

// Its keys are given to a provider once: with others it is another provider, which remembers the same tokens.
function reopened(response) {
  provider = opened()
  response.writeHead(204).end()
}

const server = createServer((request, response) => {
  const path = request.url.split('?')[0]
  response.on('finish', () => console.log(request.method, path, response.statusCode))
  if (path === '/test/reopen') reopened(response)
  else if (path.startsWith('/interaction/')) {
    interact(request, response).catch((error) => response.writeHead(500).end(String(error)))
  } else provider.callback()(request, response)
})
server.listen(told.port, '127.0.0.1', () => console.log('listening'))
process.on('SIGTERM', () => process.exit(0))
