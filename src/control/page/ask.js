// Requests to the process. What goes wrong becomes an Error with words for people. The token stays in this variable.

const PATIENCE_MS = 10_000;

let token = null;

const REFUSED = {
  401: "The process does not accept the token.",
  403: "The process does not allow this.",
  404: "The process does not know this.",
  429: "The process has too much to answer just now.",
};

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The answer's words, where it has some: a refusal is JSON with what is wrong and what to do.
async function refusal(response) {
  let said = {};
  try {
    said = JSON.parse(await response.text());
  } catch {
    // What stands between this page and the process may answer with something else.
  }
  const message =
    said?.message ?? REFUSED[response.status] ?? `The process answered ${response.status} ${response.statusText}.`;
  return new Refused(response.status, [message, said?.help].filter(Boolean).map(sentence).join(" "));
}

function sentence(text) {
  return capital(text) + (/[.!?]$/.test(text) ? "" : ".");
}

async function ask(path, options = {}) {
  const limits = [AbortSignal.timeout(PATIENCE_MS)];
  if (options.signal) limits.push(options.signal);
  const headers = { ...options.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { cache: "no-store", ...options, headers, signal: AbortSignal.any(limits) });
  if (!response.ok) throw await refusal(response);
  return response;
}

// Why nothing came back, in words.
function whyNot(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return `It did not answer within ${duration(PATIENCE_MS / 1000)}.`;
  if (error instanceof SyntaxError) return "Its answer could not be read: something else may listen there.";
  return "It cannot be reached.";
}
