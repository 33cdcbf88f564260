// Talking to /v1: problems become errors with their words, writes carry the proof that this page made them.

export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail ?? body?.title ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.code ?? "";
    this.trace = body?.trace_id ?? "";
    this.errors = body?.errors ?? [];
  }
}

/** Who is signed in, as `/v1/me` says it; the CSRF token of writes is part of it. */
export const me = { required: false, signed_in: false, scope: "admin", csrf: null };

let onSignIn = () => {};
export const whenSignInIsNeeded = (then) => { onSignIn = then; };

export async function whoAmI() {
  Object.assign(me, await call("GET", "/v1/me"));
  return me;
}

async function call(method, path, body, headers = {}) {
  const init = { method, headers: { accept: "application/json", ...headers }, credentials: "same-origin", cache: "no-store" };
  if (method !== "GET") {
    if (me.csrf) init.headers["x-csrf-token"] = me.csrf;
    if (body !== undefined) {
      init.headers["content-type"] = "application/json";
      init.body = JSON.stringify(body);
    }
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Refused(0, { detail: "the server cannot be reached; this page goes on when it is back", code: "unreachable" });
  }
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return said;
  if (answer.status === 401 && path !== "/v1/sign-in") onSignIn();
  throw new Refused(answer.status, said);
}

export const get = (path, query) => {
  const params = new URLSearchParams(Object.entries(query ?? {}).filter(([, v]) => v !== "" && v !== null && v !== undefined && v !== false));
  const tail = params.toString();
  return call("GET", tail ? `${path}?${tail}` : path);
};
export const post = (path, body, headers) => call("POST", path, body, headers);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);
export const part = encodeURIComponent;

/** The live picture: one stream for the whole page, at most one message a second; listeners come and go with pages. */
export const live = { last: null, on: new EventTarget() };
let source = null;

export function startLive(mark) {
  source?.close();
  source = new EventSource("/v1/overview/events");
  source.addEventListener("overview", (event) => {
    live.last = JSON.parse(event.data);
    mark("yes", "live");
    live.on.dispatchEvent(new Event("overview"));
  });
  source.onerror = () => mark("no", "no connection");
}
