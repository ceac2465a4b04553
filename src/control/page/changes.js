// What has changed since the page was opened: seen from one status to the next, and told once.

const MOST_CHANGES = 50;

function tell(text) {
  const log = byId("log");
  log.prepend(element("li", {}, element("time", {}, clockTime(new Date())), ` ${text}`));
  while (log.children.length > MOST_CHANGES) log.lastChild.remove();
  setHidden(byId("unchanged"), true);
}

function hasRestarted(before, after) {
  return after.uptime_s < before.uptime_s || after.config.generation < before.config.generation;
}

function tellChanges(before, after) {
  if (hasRestarted(before, after)) {
    tell(
      `The process was started again${before.version === after.version ? "" : `: ${before.version} became ${after.version}`}.`,
    );
    return;
  }
  if (before.phase !== after.phase) tell(`The process is ${after.phase}.`);
  if (before.config.generation !== after.config.generation) {
    tell(`Configuration ${whole(after.config.generation)} is in effect.`);
  }
  if (before.config.last_reload_successful && !after.config.last_reload_successful) tell("A reload failed.");
  tellComings("Listener", byName(before.listeners), byName(after.listeners));
  const [had, has] = [servers(before), servers(after)];
  tellComings("Server", had, has);
  for (const [name, server] of has) {
    if (had.has(name)) tellServer(name, had.get(name), server);
  }
  const under = new Set(after.closings.map(({ id }) => id));
  before.closings.filter(({ id }) => !under.has(id)).forEach(({ why }) => tell(`Closing is done: ${why}.`));
}

function byName(things) {
  return new Map(things.map((thing) => [thing.name, thing]));
}

function servers(status) {
  return new Map(
    status.pools.flatMap((pool) => pool.servers.map((server) => [`${pool.name}/${server.name}`, server])),
  );
}

function tellComings(kind, before, after) {
  for (const [name, { removed }] of after) {
    if (!before.has(name)) tell(`${kind} ${name} is new.`);
    else if (removed && !before.get(name).removed) tell(`${kind} ${name} was removed; its connections go on.`);
  }
  for (const [name, { removed }] of before) {
    if (!after.has(name)) tell(`${kind} ${name} ${removed ? "has no connections left" : "was removed"}.`);
  }
}

function tellServer(name, before, after) {
  if (before.state !== after.state) tell(`Server ${name}: ${before.state} became ${after.state}.`);
  if (before.health !== after.health) tell(`Server ${name}: ${before.health} became ${after.health}.`);
  if (before.weight !== after.weight)
    tell(`Server ${name}: weight ${whole(before.weight)} became ${whole(after.weight)}.`);
}
