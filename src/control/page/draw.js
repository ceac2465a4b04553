// Elements, tables that keep their rows, and charts. Text is always set as text: nothing that comes from the process
// is ever read as HTML.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// What is not touched keeps its selection, and is not told again by a screen reader.
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function setClass(target, name) {
  if (target.className !== name) target.className = name;
}

function setHidden(target, hidden) {
  if (target.hidden !== hidden) target.hidden = hidden;
}

// Children in this order; those that stand right are not moved, so that the focus stays where it is.
function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) {
    if (!wanted.has(child)) child.remove();
  }
  children.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
}

// A table whose rows are found again by a key. A column's `cell` fills an empty cell and gives what updates it. The
// roles say again what the tags say: on narrow screens rows are laid out as cards, and browsers forget it then.
class Table {
  constructor(caption, columns) {
    this.columns = columns;
    this.rows = new Map();
    this.heads = columns.map(({ label, kind }) =>
      element("th", { scope: "col", role: "columnheader", class: kind ?? "" }, label),
    );
    this.body = element("tbody", { role: "rowgroup" });
    this.caption = element("caption", {}, caption);
    const head = element("tr", { role: "row" }, ...this.heads);
    this.root = element(
      "table",
      { role: "table" },
      this.caption,
      element("thead", { role: "rowgroup" }, head),
      this.body,
    );
  }

  update(items) {
    const kept = new Map();
    for (const { key, item, muted } of items) {
      const row = this.rows.get(key) ?? this.newRow();
      kept.set(key, row);
      setClass(row.root, muted ? "removed" : "");
      row.updates.forEach((update) => update(item));
    }
    this.rows = kept;
    arrange(
      this.body,
      [...kept.values()].map((row) => row.root),
    );
  }

  newRow() {
    const root = element("tr", { role: "row" });
    const updates = this.columns.map(({ label, kind, cell }, place) => {
      const made =
        place === 0
          ? element("th", { scope: "row", role: "rowheader", class: kind ?? "" })
          : element("td", { role: "cell", class: kind ?? "", "data-label": label });
      root.append(made);
      return cell(made);
    });
    return { root, updates };
  }
}

// A cell that is one text.
function textCell(text) {
  return (cell) => (item) => setText(cell, text(item));
}

// A cell with a second line that matters less.
function twoLines(first, second) {
  return (cell) => {
    const [above, below] = [element("span"), element("small")];
    cell.append(above, below);
    return (item) => {
      setText(above, first(item));
      setText(below, second(item));
      setHidden(below, below.textContent === "");
    };
  };
}

// A number with a bar: which part of the whole it is. The bar only repeats what the number says.
function barCell(text, part, below = () => "") {
  return (cell) => {
    const [number, small] = [element("span"), element("small")];
    const filled = drawing("rect", { height: 4, width: 0 });
    const bar = drawing(
      "svg",
      { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
      filled,
    );
    cell.append(number, small, bar);
    return (item) => {
      setText(number, text(item));
      setText(small, below(item));
      setHidden(small, small.textContent === "");
      filled.setAttribute("width", Math.min(100, 100 * part(item)).toFixed(1));
    };
  };
}

// The pieces of a series between two moments, as points of a drawing; it breaks where nothing is known.
function pieces(points, from, until, most, width, height) {
  const found = [[]];
  for (const { at, value } of points) {
    if (value === null) found.push([]);
    else found.at(-1).push([((at - from) / (until - from)) * width, height - (value / most) * height]);
  }
  return found.filter((piece) => piece.length > 0);
}

function path(piece) {
  return piece.map(([x, y], place) => `${place === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function line(pieces) {
  return pieces.map(path).join("");
}

// What lies under the line.
function area(pieces, height) {
  return pieces.map((piece) => `${path([[piece[0][0], height], ...piece, [piece.at(-1)[0], height]])}Z`).join("");
}

function largest(lists) {
  return Math.max(0, ...lists.flat().map(({ value }) => value ?? 0));
}

// A small line in a row, beside the number that it ends in.
function sparkCell(points) {
  return (cell) => {
    const [under, over] = [drawing("path", { class: "area" }), drawing("path", { class: "line" })];
    const base = drawing("path", { class: "base", d: "M0 23.5H100" });
    cell.append(
      drawing(
        "svg",
        { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
        base,
        under,
        over,
      ),
    );
    return (item) => {
      const [list, now] = points(item);
      const drawn = pieces(list, now - KEPT_MS, now, largest([list]) || 1, 100, 21);
      over.setAttribute("d", line(drawn.map((piece) => piece.map(([x, y]) => [x, y + 1.5]))));
      under.setAttribute("d", area(drawn, 23));
    };
  };
}

// The next round number: the top of an axis that does not jump about.
function roundUp(number, binary) {
  if (number <= 0) return 1;
  const base = binary ? 2 : 10;
  const power = base ** Math.floor(Math.log(number) / Math.log(base));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= number) ?? power * 10;
}

// A chart of the last two minutes, with what it says now in large letters.
class Chart {
  constructor({ title, series, format, binary }) {
    this.title = title;
    this.series = series;
    this.format = format;
    this.binary = binary ?? false;
    this.value = element("p", { class: "value" });
    this.note = element("p", { class: "muted" });
    this.paths = series.map(({ style }) => drawing("path", { class: `line ${style}` }));
    this.area = drawing("path", { class: "area" });
    this.label = drawing("title", {}, title);
    this.svg = drawing(
      "svg",
      { class: "chart", role: "img", viewBox: "0 0 300 70", preserveAspectRatio: "none" },
      this.label,
      drawing("path", { class: "base", d: "M0 .5H300M0 69.5H300" }),
      this.area,
      ...this.paths,
    );
    this.top = element("span", { class: "top", "aria-hidden": "true" });
    this.legend = element("ul", { class: "legend" });
    this.legendTexts = series.map(({ name, style }) => {
      const text = element("span");
      const sample = drawing(
        "svg",
        { class: "sample", viewBox: "0 0 24 6", "aria-hidden": "true" },
        drawing("path", { class: `line ${style}`, d: "M0 3H24" }),
      );
      this.legend.append(element("li", {}, sample, `${name} `, text));
      return text;
    });
    setHidden(this.legend, series.length < 2);
    const ends = element(
      "p",
      { class: "ends", "aria-hidden": "true" },
      element("span", {}, "2 min ago"),
      element("span", {}, "now"),
    );
    this.root = element(
      "figure",
      { class: "card" },
      element("figcaption", {}, title),
      this.value,
      this.note,
      this.legend,
      element("div", { class: "plot" }, this.top, this.svg),
      ends,
    );
  }

  // `lists` has the points of each series, `values` what they are now.
  update({ value, note, lists, values, now }) {
    const most = roundUp(largest(lists), this.binary);
    setText(this.value, value);
    setText(this.note, note ?? "");
    setText(this.top, this.format(most));
    const drawn = lists.map((list) => pieces(list, now - KEPT_MS, now, most, 300, 68));
    this.paths.forEach((path, place) => path.setAttribute("d", line(drawn[place])));
    if (lists.length === 1) this.area.setAttribute("d", area(drawn[0], 69));
    const said = this.series.map(({ name }, place) => {
      setText(this.legendTexts[place], values[place] === null ? UNKNOWN : this.format(values[place]));
      const most = this.format(largest([lists[place]]));
      return `${name} now ${this.legendTexts[place].textContent}, at most ${most}`;
    });
    this.svg.setAttribute("aria-label", `${this.title} in the last two minutes: ${said.join("; ")}`);
  }
}
