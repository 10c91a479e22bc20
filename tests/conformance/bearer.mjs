// Preloaded into the conformance suite, which cannot send a token by itself: adds one to whatever goes to the server
// under test, over every HTTP client that the suite uses (fetch, undici, node:http), and changes nothing else.
import { subscribe } from "node:diagnostics_channel";

const { SOD_ORIGIN: origin, SOD_TOKEN: token } = process.env;
const value = `Bearer ${token}`;

subscribe("undici:request:create", ({ request }) => {
  if (request.method !== "CONNECT" && new URL(request.path, request.origin).origin === origin) {
    request.addHeader("authorization", value);
  }
});

subscribe("http.client.request.created", ({ request }) => {
  // Through a proxy, the path is the whole URL.
  if (new URL(request.path, `http://${request.getHeader("host")}`).origin === origin) {
    request.setHeader("authorization", value);
  }
});
