// The loop: ask, show, wait; slower while nobody answers, not at all while nobody looks.

const EVERY_MS = 1000;
const SLOWEST_MS = 5000;

const state = { status: null, paused: false, locked: false, lostAt: null, failures: 0, changes: 0 };
let timer = null;
let asking = false;

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    // Answers may wait for the page to be drawn; when the process was asked is known better.
    const at = performance.now();
    const { changes } = state;
    const response = await ask("api/v1/status");
    const status = await response.json();
    // What was changed from here meanwhile may not be in it.
    if (changes === state.changes) take(at, status, response.headers.get("tidegate-writes") === "on");
  } catch (error) {
    if (error.status === 401) lock(error);
    else lose(error);
  }
  asking = false;
  const wait = Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(state.failures, 3));
  if (!state.paused && !state.locked && !document.hidden) timer = setTimeout(refresh, wait);
}

function take(at, status, writes) {
  const before = state.status;
  if (before && hasRestarted(before, status)) memory.clear();
  memory.begin(at);
  showStatus(status, writes);
  memory.end();
  offerNames(status);
  state.status = status;
  if (state.lostAt) tell(`The process answers again; it did not since ${clockTime(state.lostAt)}.`);
  if (before) tellChanges(before, status);
  if (!before || state.lostAt) readConnections();
  Object.assign(state, { lostAt: null, failures: 0 });
  setText(byId("lost"), "");
}

// What is shown stays, and is said to be old.
function lose(error) {
  state.failures += 1;
  state.lostAt ??= new Date();
  const since = clockTime(state.lostAt);
  const old = state.status ? " What is shown below is from before." : "";
  const what = error instanceof Refused ? "does not tell its state" : "does not answer";
  setText(
    byId("lost"),
    `The process ${what} since ${since}. ${whyNot(error)}${old} It is asked again every few seconds.`,
  );
  setText(byId("phase"), "No answer");
  setClass(byId("phase"), "badge lost");
  setHidden(byId("phase"), false);
  document.title = "tidegate does not answer";
  if (!state.status) setText(byId("about"), location.host);
}

// Nothing is shown without the token, which is asked for once.
function lock(error) {
  state.locked = true;
  const wrong = token === null ? "" : whyNot(error);
  setToken(null);
  setText(byId("wrong"), wrong);
  setHidden(byId("enter"), false);
  byId("key").focus();
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("key").value.trim() || null);
  byId("key").value = "";
  state.locked = false;
  setHidden(byId("enter"), true);
  start();
});

function start() {
  refresh();
  if (state.status) readConnections();
}

byId("pause").addEventListener("click", (event) => {
  state.paused = !state.paused;
  event.target.setAttribute("aria-pressed", String(state.paused));
  clearTimeout(timer);
  clearTimeout(connectionsTimer);
  if (!state.paused) start();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !state.paused) start();
});
start();
