// Changing a server: asked for in a dialog that says what will happen, with the token if it is not known.

let asked = null;
const dialog = byId("change");
const form = dialog.querySelector("form");

function setToken(next) {
  token = next;
  setHidden(byId("forget"), token === null);
  setHidden(byId("token-field"), token !== null);
}

function askForChange(server) {
  asked = server;
  setText(byId("change-heading"), `Change ${server.pool}/${server.name}`);
  form.elements.state.value = server.state;
  form.elements.weight.value = server.weight;
  form.elements.token.value = "";
  setToken(token);
  showProblem("");
  showEffect();
  dialog.showModal();
}

function showProblem(text) {
  setText(byId("problem"), text);
  setHidden(byId("problem"), text === "");
}

function wantedWeight() {
  const text = form.elements.weight.value.trim();
  return /^[0-9]{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : null;
}

// What applying this would do, in words; null when it makes no sense.
function effect() {
  const [state, weight] = [form.elements.state.value, wantedWeight()];
  if (weight === null) return null;
  const told = [];
  if (state !== asked.state) told.push(`${asked.state} becomes ${state}`);
  if (weight !== asked.weight) told.push(`weight ${whole(asked.weight)} becomes ${whole(weight)}`);
  if (told.length === 0) return "";
  const next = { ...asked, state, weight };
  const sentences = [`${capital(told.join(", "))}.`];
  if (takesConnections(asked) && !takesConnections(next)) {
    sentences.push(
      `It gets no new connections; its ${count(asked.connections, "connection goes", "connections go")} on.`,
    );
    if (isLast(asked)) sentences.push("No other server of this pool takes connections: new clients will be refused.");
  }
  return sentences.join(" ");
}

function isLast({ pool, name }) {
  const { servers } = state.status.pools.find((one) => one.name === pool) ?? { servers: [] };
  return !servers.some((server) => server.name !== name && takesConnections(server));
}

function showEffect() {
  const told = effect();
  setText(
    byId("effect"),
    told === "" ? "Nothing changes." : (told ?? "The weight is a whole number from 0 to 65,535."),
  );
  form.elements.weight.setAttribute("aria-invalid", String(told === null));
  byId("apply").disabled = !told;
}

async function put(what, body) {
  const path = `api/v1/pools/${encodeURIComponent(asked.pool)}/servers/${encodeURIComponent(asked.name)}/${what}`;
  const headers = { "Content-Type": "application/json" };
  const response = await ask(path, { method: "PUT", headers, body: JSON.stringify(body) });
  return response.json();
}

async function apply() {
  if (token === null) setToken(form.elements.token.value.trim() || null);
  if (token === null) {
    showProblem("A token is needed: the one in the file that http_token_file names.");
    form.elements.token.focus();
    return;
  }
  const changes = [
    ["state", form.elements.state.value],
    ["weight", wantedWeight()],
  ];
  for (const [what, value] of changes.filter(([what, value]) => value !== asked[what])) {
    const { what: done, next_reload: later } = await put(what, { [what]: value });
    tell(`${sentence(done)} ${sentence(`the next reload ${later}`)}`);
    asked[what] = value;
    remember(asked, what, value);
  }
  dialog.close();
  refresh();
}

// It was told already, so that the next status brings nothing new.
function remember({ pool, name }, what, value) {
  const known = servers(state.status).get(`${pool}/${name}`);
  if (known) known[what] = value;
  state.changes += 1;
}

form.addEventListener("input", () => {
  showProblem("");
  showEffect();
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("apply").disabled = true;
  try {
    await apply();
  } catch (error) {
    if (error.status === 401) setToken(null);
    showProblem(`Not done. ${whyNot(error)}`);
    if (token === null) form.elements.token.focus();
  }
  showEffect();
});
byId("cancel").addEventListener("click", () => dialog.close());
byId("forget").addEventListener("click", () => {
  setToken(null);
  byId("pause").focus();
});
