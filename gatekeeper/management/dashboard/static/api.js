// Calls of the management API. The session's cookie goes along by itself; its second secret is kept
// in this module, and nowhere that outlives the page.

let csrf = "";

/** Something was not done; the message is a sentence for people. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Remember the second secret of the session from now on ("": there is none). */
export function useSession(secret) {
  csrf = secret;
}

/** Make a call: the answer's document, null where it has none. Where the session has ended the
 * window is told, by the event "logged-out".
 * @throws {ApiError} it was refused, or there was no answer. */
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let answer;
  let text;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(20_000),
    });
    text = await answer.text();
  } catch {
    throw new ApiError("The daemon does not answer.");
  }
  let document = null;
  try {
    document = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError("The answer cannot be understood.", answer.status);
  }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "dashboard/session") window.dispatchEvent(new Event("logged-out"));
    const detail = document && (document.detail || document.message);
    throw new ApiError(detail || `The daemon answered ${answer.status}.`, answer.status);
  }
  return document;
}

export const get = (path) => call("GET", path);

/** The items of a list, at most so many, and whether there are more. */
export async function list(path, most = 1000) {
  const items = [];
  let after = "";
  do {
    const query = new URLSearchParams({ limit: String(Math.min(1000, most - items.length)) });
    if (after) query.set("after", after);
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    items.push(...page.items);
    after = page.next;
  } while (after && items.length < most);
  return { items, more: Boolean(after) };
}

/** A path with parts that may have any characters. */
export function path(strings, ...parts) {
  return String.raw({ raw: strings }, ...parts.map(encodeURIComponent));
}
