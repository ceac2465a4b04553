// Numbers and times as people read them.

const UNKNOWN = "–";
const GROUPED = new Intl.NumberFormat("en");

// "tidegate" speaks English throughout, so it says 1,234 everywhere.
function whole(number) {
  return GROUPED.format(Math.round(number));
}

function count(number, one, many) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

// One digit behind the point where it tells something.
function short(number) {
  if (number === 0) return "0";
  if (number < 0.1) return "< 0.1";
  return number < 9.95 ? number.toFixed(1) : whole(number);
}

function perSecond(rate) {
  return rate === null ? UNKNOWN : `${short(rate)}/s`;
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (number >= 1023.5 && unit + 1 < units.length) {
    number /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && number < 99.95 ? number.toFixed(1) : whole(number);
  return `${digits} ${units[unit]}`;
}

function bytesPerSecond(rate) {
  return rate === null ? UNKNOWN : `${bytes(rate)}/s`;
}

function percent(part, all) {
  if (!(all > 0)) return UNKNOWN;
  const share = (100 * part) / all;
  if (share > 0 && share < 1) return "< 1 %";
  return `${whole(share)} %`;
}

// How long something lasts: its two largest units.
function duration(seconds) {
  if (seconds < 1) return `${whole(seconds * 1000)} ms`;
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [name, size] = units[first];
  const large = `${whole(Math.floor(seconds / size))} ${name}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest > 0 ? `${large} ${rest} ${next[0]}` : large;
}

// How long something short takes.
function latency(seconds) {
  if (seconds < 0.0009995) return `${whole(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${short(seconds * 1e3)} ms`;
  return `${short(seconds)} s`;
}

function clockTime(date) {
  return date.toLocaleTimeString("en-GB");
}

function dateAndTime(date) {
  const part = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${part(date.getMonth() + 1)}-${part(date.getDate())} ${clockTime(date)}`;
}

function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

// `half_closed` is a name in JSON and two words on the page.
function words(name) {
  return name.replaceAll("_", " ");
}
