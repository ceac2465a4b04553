// What the page shows of a status: figures, listeners, pools with their servers, workers, closings.

const byId = (id) => document.getElementById(id);
const memory = new Memory();

const STATES = {
  ready: { sign: "●", word: "ready" },
  drain: { sign: "◐", word: "drain" },
  maint: { sign: "○", word: "maint" },
  down: { sign: "▼", word: "down" },
  ejected: { sign: "▽", word: "ejected" },
};

const CARDS = {
  connections: new Chart({
    title: "Connections",
    format: whole,
    series: [{ name: "open", style: "first" }],
  }),
  accepted: new Chart({
    title: "New connections",
    format: perSecond,
    series: [{ name: "new", style: "first" }],
  }),
  bytes: new Chart({
    title: "Bytes",
    format: bytesPerSecond,
    binary: true,
    series: [
      { name: "up", style: "first" },
      { name: "down", style: "second" },
    ],
  }),
};
byId("cards").append(...Object.values(CARDS).map((chart) => chart.root));

// Rates of everything in a status, each counter told to the memory once.
function measure(status) {
  const listeners = status.listeners.map((listener) => {
    const key = `listener ${listener.name}`;
    memory.gauge(`${key} open`, listener.connections);
    return {
      ...listener,
      key,
      accepts: memory.rate(`${key} new`, listener.accepted),
      up: memory.rate(`${key} up`, listener.bytes.up),
      down: memory.rate(`${key} down`, listener.bytes.down),
    };
  });
  const total = {
    open: memory.gauge("open", status.process.connections),
    accepts: memory.gauge("new", sumOfKnown(listeners.map(({ accepts }) => accepts))),
    up: memory.gauge("up", sumOfKnown(listeners.map(({ up }) => up))),
    down: memory.gauge("down", sumOfKnown(listeners.map(({ down }) => down))),
  };
  const pools = status.pools.map((pool) => ({
    ...pool,
    servers: pool.servers.map((server) => measureServer(pool, server)),
  }));
  return { total, listeners, pools, workers: status.workers.map(measureWorker) };
}

function measureServer(pool, server) {
  const key = `server ${pool.name}/${server.name}`;
  const tried = sum(Object.values(server.attempts));
  const before = memory.aMinuteAgo(key, tried, { attempts: server.attempts, times: server.connect_seconds });
  const failed = Object.entries(server.attempts)
    .map(([result, now]) => [result, now - (before.attempts[result] ?? 0)])
    .filter(([result, recent]) => result !== "ok" && recent > 0);
  memory.gauge(`${key} open`, server.connections);
  return {
    ...server,
    key,
    pool: pool.name,
    inPool: sum(pool.servers.map(({ connections }) => connections)),
    made: memory.rate(`${key} new`, server.attempts.ok ?? 0),
    up: memory.rate(`${key} up`, server.bytes.up),
    down: memory.rate(`${key} down`, server.bytes.down),
    failed,
    half: quantile(before.times, server.connect_seconds, 0.5),
    most: quantile(before.times, server.connect_seconds, 0.99),
  };
}

function measureWorker(worker, _, all) {
  const key = `worker ${worker.number}`;
  const before = memory.aMinuteAgo(key, worker.turns, worker.answer_seconds);
  return {
    ...worker,
    key,
    inAll: sum(all.map(({ connections }) => connections)),
    turning: memory.rate(`${key} turns`, worker.turns),
    busy: memory.rate(`${key} busy`, worker.cpu_seconds),
    slowest: quantile(before, worker.answer_seconds, 0.99),
  };
}

function bound(seconds) {
  if (seconds === null) return UNKNOWN;
  return seconds === Infinity ? "very long" : `≤ ${latency(seconds)}`;
}

// A badge: a sign and a word, so that nothing is said by colour alone.
function badge(target, state, removed) {
  const { sign, word } = removed ? { sign: "×", word: "removed" } : STATES[state];
  if (target.dataset.said === word) return;
  target.dataset.said = word;
  target.className = `state ${word}`;
  target.replaceChildren(element("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}

function stateCell(cell) {
  const [state, file] = [element("span"), element("small")];
  cell.append(state, file);
  return (server) => {
    const found = server.state === "ready" && server.health !== "up";
    badge(state, found ? server.health : server.state, server.removed);
    setText(file, server.file_state ? `file: ${server.file_state}` : "");
    setHidden(file, !server.file_state);
  };
}

const LISTENERS = new Table("Rates are those of the last second; ends are counted since the start.", [
  {
    label: "Listener",
    cell: twoLines(
      ({ name, removed }) => (removed ? `${name} (removed)` : name),
      ({ addresses }) => addresses.join(", "),
    ),
  },
  {
    label: "Goes to",
    cell: twoLines(
      ({ pool }) => pool,
      ({ engine }) => `engine ${engine}`,
    ),
  },
  {
    label: "Connections",
    kind: "number",
    cell: twoLines(
      ({ connections }) => whole(connections),
      ({ maxconn }) => (maxconn === null ? "" : `of ${whole(maxconn)}`),
    ),
  },
  {
    label: "Two minutes",
    kind: "number sparks",
    cell: sparkCell(({ key }) => [memory.points(`${key} open`), memory.now]),
  },
  { label: "New", kind: "number", cell: textCell(({ accepts }) => perSecond(accepts)) },
  { label: "Up", kind: "number", cell: textCell(({ up }) => bytesPerSecond(up)) },
  { label: "Down", kind: "number", cell: textCell(({ down }) => bytesPerSecond(down)) },
  {
    label: "Ended",
    kind: "wide",
    cell: twoLines(
      ({ closed }) => count(closed.done ?? 0, "as it should", "as they should"),
      ({ closed }) => otherEnds(closed),
    ),
  },
]);
LISTENERS.root.classList.add("cards-when-narrow");
byId("listeners").append(LISTENERS.root);

// Causes as in the access log, the most frequent first.
function otherEnds(closed) {
  const others = Object.entries(closed).filter(([cause, times]) => cause !== "done" && times > 0);
  others.sort(([one, a], [other, b]) => b - a || one.localeCompare(other));
  return others.map(([cause, times]) => `${words(cause)} ${whole(times)}`).join(", ");
}

const SERVER_COLUMNS = [
  {
    label: "Server",
    cell: twoLines(
      ({ name }) => name,
      ({ address }) => address,
    ),
  },
  { label: "State", cell: stateCell },
  {
    label: "Weight",
    kind: "number",
    cell: twoLines(
      ({ weight }) => whole(weight),
      (server) => (server.file_weight === null ? "" : `file: ${whole(server.file_weight)}`),
    ),
  },
  {
    label: "Connections",
    kind: "number",
    cell: barCell(
      ({ connections }) => whole(connections),
      ({ connections, inPool }) => connections / Math.max(1, inPool),
    ),
  },
  {
    label: "Two minutes",
    kind: "number sparks",
    cell: sparkCell(({ key }) => [memory.points(`${key} open`), memory.now]),
  },
  { label: "New", kind: "number", cell: textCell(({ made }) => perSecond(made)) },
  { label: "Up", kind: "number", cell: textCell(({ up }) => bytesPerSecond(up)) },
  { label: "Down", kind: "number", cell: textCell(({ down }) => bytesPerSecond(down)) },
  {
    label: "Failed",
    kind: "number",
    cell: twoLines(
      ({ failed }) => whole(sum(failed.map(([, times]) => times))),
      ({ failed }) => failed.map(([result, times]) => `${result} ${whole(times)}`).join(", "),
    ),
  },
  {
    label: "Connects in",
    kind: "number",
    cell: twoLines(
      ({ half }) => bound(half),
      ({ half, most }) => (half === null ? "" : `99 % ${bound(most)}`),
    ),
  },
];

// The last column, there only while the process lets this page write.
const CHANGE_COLUMN = { label: "Change", kind: "action", cell: changeCell };

function changeCell(cell) {
  const button = element("button", { type: "button" }, "Change …");
  cell.append(button);
  return (server) => {
    const named = `Change ${server.pool}/${server.name}`;
    if (button.getAttribute("aria-label") !== named) button.setAttribute("aria-label", named);
    setHidden(button, server.removed);
    button.onclick = () => askForChange(server);
  };
}

const poolTables = new Map();
let writable = null;

function showPools(pools, writes) {
  if (writes !== writable) {
    writable = writes;
    poolTables.clear();
    setHidden(byId("writes"), writes);
  }
  const wanted = pools.map((pool) => {
    const made = poolTables.get(pool.name) ?? newPool(pool);
    poolTables.set(pool.name, made);
    const ready = pool.servers.filter(takesConnections).length;
    setText(
      made.note,
      `${words(pool.balance)}, ${ready} of ${count(pool.servers.length, "server takes", "servers take")} new connections`,
    );
    made.table.update(pool.servers.map((server) => ({ key: server.name, item: server, muted: server.removed })));
    return made.root;
  });
  arrange(byId("pool-list"), wanted);
}

function newPool(pool) {
  const table = new Table(`Servers of ${pool.name}`, writable ? [...SERVER_COLUMNS, CHANGE_COLUMN] : SERVER_COLUMNS);
  table.caption.className = "unseen";
  table.root.classList.add("cards-when-narrow");
  const note = element("p", { class: "muted" });
  const root = element("div", { class: "pool" }, element("h3", {}, pool.name), note, table.root);
  return { root, table, note };
}

function takesConnections({ state, weight, removed }) {
  return state === "ready" && weight > 0 && !removed;
}

const WORKERS = new Table(
  "Busy is the part of the time that a worker was on a CPU. Each is asked once a second whether it still turns; 99 of 100 answers of the last minute took no longer than said.",
  [
    {
      label: "Worker",
      cell: twoLines(
        ({ number }) => `worker ${number}`,
        ({ engine }) => engine,
      ),
    },
    {
      label: "Connections",
      kind: "number",
      cell: barCell(
        ({ connections }) => whole(connections),
        ({ connections, inAll }) => connections / Math.max(1, inAll),
      ),
    },
    {
      label: "Busy",
      kind: "number",
      cell: barCell(
        ({ busy }) => (busy === null ? UNKNOWN : percent(busy, 1)),
        ({ busy }) => busy ?? 0,
      ),
    },
    { label: "Turns", kind: "number", cell: textCell(({ turning }) => perSecond(turning)) },
    { label: "Answers in", kind: "number", cell: textCell(({ slowest }) => bound(slowest)) },
  ],
);
WORKERS.root.classList.add("tight", "cards-when-narrow");
byId("workers").append(WORKERS.root);

const CLOSINGS = new Table("Connections that are told to end, one after the other.", [
  { label: "What for", cell: textCell(({ why }) => why) },
  {
    label: "Told to end",
    kind: "number",
    cell: barCell(
      ({ told, connections }) => `${whole(told)} of ${whole(connections)}`,
      ({ told, connections }) => told / Math.max(1, connections),
    ),
  },
  { label: "At most", kind: "number", cell: textCell(({ rate }) => (rate === null ? "all at once" : `${whole(rate)}/s`)) },
]);
CLOSINGS.root.classList.add("tight", "cards-when-narrow");
byId("closings").append(CLOSINGS.root);

function showCards({ total }, { process }) {
  const { now } = memory;
  CARDS.connections.update({
    value: whole(total.open),
    note: `${percent(total.open, process.maxconn)} of maxconn, ${whole(process.maxconn)}`,
    lists: [memory.points("open")],
    values: [total.open],
    now,
  });
  CARDS.accepted.update({
    value: perSecond(total.accepts),
    lists: [memory.points("new")],
    values: [total.accepts],
    now,
  });
  CARDS.bytes.update({
    value: bytesPerSecond(sumOfKnown([total.up, total.down])),
    lists: [memory.points("up"), memory.points("down")],
    values: [total.up, total.down],
    now,
  });
}

const factValues = new Map();

function showFacts(status) {
  const { process, config } = status;
  const loaded = new Date(config.loaded_at * 1000);
  const facts = [
    ["Up for", duration(status.uptime_s)],
    [
      "Descriptors",
      `${whole(process.descriptors)} of ${whole(process.descriptor_limit)} (${percent(process.descriptors, process.descriptor_limit)})`,
    ],
    ["Configuration", `${config.file}, number ${whole(config.generation)}, since ${dateAndTime(loaded)}`],
  ];
  if (config.confirm_within_s !== null) {
    facts.push(["Waits for its confirmation", `${duration(config.confirm_within_s)} more`]);
  }
  arrange(
    byId("facts"),
    facts.map(([name, value]) => {
      const fact = factValues.get(name) ?? element("div", {}, element("dt", {}, name), element("dd"));
      factValues.set(name, fact);
      setText(fact.lastChild, value);
      return fact;
    }),
  );
}

const ABOUT_FULL = 0.9;

// What somebody should know at once. Numbers that move are elsewhere, so that nothing is told again and again.
function notices(status) {
  const { process, config } = status;
  const told = [];
  if (status.phase === "draining")
    told.push("The process drains: it takes no new connections and ends when those that are there have ended.");
  if (status.phase === "stopping") told.push("The process stops: every connection ends now.");
  if (status.phase === "serving" && !status.ready) told.push("The process says that it is not ready (/readyz).");
  if (!config.last_reload_successful) {
    told.push(
      `The last reload failed, and what was in effect before still is: ${config.last_reload_error ?? "the log says why"}`,
    );
  }
  if (config.confirm_within_s !== null)
    told.push("The configuration is taken back soon unless somebody confirms it: tidegate ctl confirm");
  if (process.connections >= ABOUT_FULL * process.maxconn)
    told.push("There are nearly as many connections as maxconn lets in.");
  if (process.descriptors >= ABOUT_FULL * process.descriptor_limit)
    told.push("Nearly all descriptors are in use: raise the limit (LimitNOFILE, ulimit -n) or lower maxconn.");
  for (const pool of status.pools) {
    if (pool.servers.length > 0 && !pool.servers.some(takesConnections)) {
      told.push(`No server of the pool ${pool.name} takes new connections: its clients are refused.`);
    }
  }
  return told;
}

const noticeItems = new Map();

function showNotices(status) {
  arrange(
    byId("notices"),
    notices(status).map((text) => {
      const item = noticeItems.get(text) ?? element("li", { class: "notice" }, text);
      noticeItems.set(text, item);
      return item;
    }),
  );
}

function showStatus(status, writes) {
  const measured = measure(status);
  setText(byId("about"), `${status.version} at ${location.host}`);
  setText(byId("phase"), capital(status.phase));
  setClass(byId("phase"), `badge ${status.phase}`);
  setHidden(byId("phase"), false);
  document.title = `tidegate ${status.phase}`;
  showNotices(status);
  showCards(measured, status);
  showFacts(status);
  LISTENERS.update(
    measured.listeners.map((listener) => ({ key: listener.name, item: listener, muted: listener.removed })),
  );
  showPools(measured.pools, writes);
  WORKERS.update(measured.workers.map((worker) => ({ key: worker.number, item: worker })));
  CLOSINGS.update(status.closings.map((closing) => ({ key: closing.id, item: closing })));
  setHidden(byId("closings"), status.closings.length === 0);
}
