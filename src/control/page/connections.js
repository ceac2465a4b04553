// Live connections: read with the filter of the form, sorted here, the first of them shown.

const MOST_READ = 1000;
const MOST_SHOWN = 200;
const CONNECTIONS_EVERY_MS = 3000;

const filter = byId("filter");
const sorting = { column: "age", falling: true };

// How a column is sorted; text rises first, numbers fall first.
const ORDERS = {
  client: ({ client }) => client ?? "",
  way: ({ listener, pool, server }) => `${listener} ${pool}/${server ?? ""}`,
  state: ({ state }) => state,
  age: ({ age_ms }) => age_ms,
  idle: ({ idle_ms }) => idle_ms ?? -1,
  up: ({ bytes }) => bytes.up,
  down: ({ bytes }) => bytes.down,
  client_path: ({ client_path }) => client_path?.rtt_us ?? -1,
  server_path: ({ server_path }) => server_path?.rtt_us ?? -1,
  worker: ({ worker }) => worker,
};

const PATH_COLUMNS = [
  { label: "To client", sort: "client_path", kind: "number path", cell: pathCell(({ client_path }) => client_path) },
  { label: "To server", sort: "server_path", kind: "number path", cell: pathCell(({ server_path }) => server_path) },
];

const CONNECTIONS = new Table("Each column can be sorted by its head.", [
  {
    label: "Client",
    sort: "client",
    cell: twoLines(
      ({ client }) => client ?? "unix socket",
      ({ id }) => id,
    ),
  },
  {
    label: "Way",
    sort: "way",
    cell: twoLines(
      ({ listener }) => listener,
      ({ pool, server }) => `→ ${pool}/${server ?? "…"}`,
    ),
  },
  { label: "State", sort: "state", cell: textCell(({ state }) => words(state)) },
  { label: "Age", sort: "age", kind: "number", cell: textCell(({ age_ms }) => duration(age_ms / 1000)) },
  {
    label: "Idle",
    sort: "idle",
    kind: "number",
    cell: textCell(({ idle_ms }) => (idle_ms === null ? UNKNOWN : duration(idle_ms / 1000))),
  },
  { label: "Up", sort: "up", kind: "number", cell: textCell(({ bytes: { up } }) => bytes(up)) },
  { label: "Down", sort: "down", kind: "number", cell: textCell(({ bytes: { down } }) => bytes(down)) },
  ...PATH_COLUMNS,
  {
    label: "Worker",
    sort: "worker",
    kind: "number",
    cell: twoLines(
      ({ worker }) => String(worker),
      ({ engine }) => engine,
    ),
  },
]);
CONNECTIONS.root.classList.add("cards-when-narrow");
byId("connections").append(CONNECTIONS.root);

function pathCell(path) {
  return twoLines(
    (item) => (path(item) ? latency(path(item).rtt_us / 1e6) : UNKNOWN),
    (item) => (path(item) ? `${whole(path(item).retransmits)} sent again` : ""),
  );
}

// Heads become buttons. On narrow screens, where there are no heads, the same choice is made in a list.
const sortList = element("select", { name: "sort" });
const sortButtons = CONNECTIONS.columns.map(({ label, sort, kind }, place) => {
  const button = element("button", { type: "button", class: "sort" }, label);
  button.addEventListener("click", () => sortBy(sort, sorting.column === sort ? !sorting.falling : Boolean(kind)));
  CONNECTIONS.heads[place].replaceChildren(button);
  sortList.append(element("option", { value: sort }, label));
  return { sort, head: CONNECTIONS.heads[place] };
});
filter.append(element("label", { class: "only-narrow" }, "Sorted by ", sortList));
sortList.addEventListener("input", () =>
  sortBy(sortList.value, Boolean(CONNECTIONS.columns.find(({ sort }) => sort === sortList.value).kind)),
);

function sortBy(column, falling) {
  Object.assign(sorting, { column, falling });
  showConnections();
}

const read = { lines: [], more: false };
let reading = null;
let connectionsTimer = null;

// The query for the API: the fields that are filled in.
function query() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(filter)) {
    if (name !== "paths" && name !== "sort" && value.trim() !== "") asked.set(name, value.trim());
  }
  if (filter.elements.paths.checked) asked.set("paths", "true");
  asked.set("limit", String(MOST_READ + 1));
  return asked;
}

async function readConnections() {
  reading?.abort();
  clearTimeout(connectionsTimer);
  const mine = new AbortController();
  reading = mine;
  try {
    const response = await ask(`api/v1/connections?${query()}`, { signal: mine.signal });
    const lines = (await response.text())
      .split("\n")
      .filter((text) => text !== "")
      .map((text) => JSON.parse(text));
    Object.assign(read, { lines: lines.slice(0, MOST_READ), more: lines.length > MOST_READ });
    showRefusal("");
    showConnections();
  } catch (error) {
    if (mine.signal.aborted) return;
    // A process that does not answer is told of at the top of the page.
    if (error instanceof Refused) {
      Object.assign(read, { lines: [], more: false });
      showRefusal(`Connections cannot be shown. ${whyNot(error)}`);
      showConnections();
    }
  }
  if (!state.paused && !state.locked && !document.hidden)
    connectionsTimer = setTimeout(readConnections, CONNECTIONS_EVERY_MS);
}

function showRefusal(text) {
  setText(byId("refused"), text);
  setHidden(byId("refused"), text === "");
}

function compare(one, other) {
  const order = ORDERS[sorting.column];
  const [a, b] = [order(one), order(other)];
  const rising = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return (sorting.falling ? -rising : rising) || one.id.localeCompare(other.id);
}

function showConnections() {
  const shown = read.lines.toSorted(compare).slice(0, MOST_SHOWN);
  CONNECTIONS.update(shown.map((connection) => ({ key: connection.id, item: connection })));
  CONNECTIONS.root.classList.toggle("without-paths", !filter.elements.paths.checked);
  setHidden(CONNECTIONS.root, shown.length === 0);
  setText(byId("found"), found(shown.length));
  for (const { sort, head } of sortButtons) {
    const way = sorting.falling ? "descending" : "ascending";
    head.setAttribute("aria-sort", sort === sorting.column ? way : "none");
  }
  sortList.value = sorting.column;
}

function found(shown) {
  const { lines, more } = read;
  if (lines.length === 0) return byId("refused").hidden ? "No connection fits." : "";
  if (!more && shown === lines.length) return `${count(shown, "connection", "connections")}.`;
  const all = more ? `the first ${whole(lines.length)} that fit; there are more` : `${whole(lines.length)} that fit`;
  return `${whole(shown)} of ${all}. The filter narrows them down.`;
}

// The names that can be chosen follow the configuration; what is chosen stays.
function offerNames(status) {
  offer(
    "listener",
    status.listeners.map(({ name }) => name),
  );
  offer(
    "pool",
    status.pools.map(({ name }) => name),
  );
  const pool = filter.elements.pool.value;
  const pools = status.pools.filter(({ name }) => pool === "" || name === pool);
  offer(
    "server",
    pools.flatMap(({ name, servers }) => servers.map((server) => `${name}/${server.name}`)),
  );
}

function offer(field, names) {
  const select = filter.elements[field];
  const wanted = ["", ...names];
  if (select.value !== "" && !names.includes(select.value)) wanted.push(select.value);
  const offered = [...select.options].map(({ value }) => value);
  if (offered.join("\n") === wanted.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((name) => element("option", { value: name }, name === "" ? "all" : name)));
  select.value = chosen;
}

// While somebody types, the process is not asked for each letter.
let typing = null;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    offerNames(state.status);
    readConnections();
  }, 300);
});
filter.addEventListener("reset", () =>
  setTimeout(() => {
    sortList.value = sorting.column;
    readConnections();
  }),
);
filter.addEventListener("submit", (event) => event.preventDefault());
