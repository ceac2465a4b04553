// What a reader would stumble over on a page, measured in the browser: text that is too pale or runs out of its place,
// headings and tables that tell a screen reader too little, files that are fetched.
function look(view) {
  const page = view.document;
  const root = page.documentElement;

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function rgba(colour) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], a: a / 255 };
  }
  function background(element) {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(view.getComputedStyle(at).backgroundColor);
      if (colour.a === 1) return colour.rgb;
    }
    return [255, 255, 255];
  }
  function luminance(rgb) {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function contrast(one, other) {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }
  const name = (element) =>
    `${element.tagName}.${element.getAttribute("class") || ""} "${element.textContent.trim().slice(0, 40)}"`;

  const found = {
    width: view.innerWidth,
    contrast: [],
    outside: [],
    overlaps: [],
    headings: [],
    unlabelled: [],
    requests: [],
    wide: [],
    texts: 0,
    smallest: 1000,
  };
  found.sideways = root.scrollWidth > root.clientWidth;
  found.paper = view.getComputedStyle(page.body).backgroundColor;

  // Every element that has text of its own.
  for (const element of page.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("title, style, svg title")) continue;
    const style = view.getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const ratio = contrast(rgba(ink).rgb, background(element));
    found.texts += 1;
    if (ratio < 4.5) found.contrast.push(`${ratio.toFixed(2)} ${name(element)} ${ink}`);
    if (!element.closest(".scroll, pre, svg") && element.getBoundingClientRect().right > root.clientWidth + 0.5) {
      found.wide.push(name(element));
    }
  }

  const charts = page.querySelectorAll("svg.chart");
  found.charts = charts.length;
  for (const chart of charts) {
    const edge = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
    for (const [text, box] of texts) {
      const inside =
        box.left >= edge.left - 0.5 &&
        box.right <= edge.right + 0.5 &&
        box.top >= edge.top - 1 &&
        box.bottom <= edge.bottom + 1;
      if (!inside) found.outside.push(`${name(text)} in ${chart.getAttribute("aria-label")}`);
      // The size on the screen: the drawing's size, scaled.
      const size = (parseFloat(view.getComputedStyle(text).fontSize) * edge.width) / chart.viewBox.baseVal.width;
      found.smallest = Math.min(found.smallest, size);
    }
    texts.forEach(([one, a], place) =>
      texts.slice(place + 1).forEach(([other, b]) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3)
          found.overlaps.push(`${name(one)} and ${name(other)} in ${chart.getAttribute("aria-label")}`);
      }),
    );
    if (chart.getAttribute("role") !== "img" || !chart.getAttribute("aria-label") || !chart.querySelector("title")) {
      found.unlabelled.push(name(chart));
    }
  }

  let level = 0;
  for (const heading of page.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1 || (level === 0) !== (next === 1)) found.headings.push(name(heading));
    level = next;
  }
  if (!root.lang || !page.title) found.unlabelled.push("the page has no language or no title");
  for (const table of page.querySelectorAll("table")) {
    const headed = [...table.querySelectorAll("th")].every((th) => th.scope);
    if (!table.caption || !headed) found.unlabelled.push(name(table));
  }
  for (const link of page.querySelectorAll("a[href]")) {
    const target = link.getAttribute("href");
    if (!target.startsWith("#") || !page.getElementById(target.slice(1)))
      found.unlabelled.push(`a link to ${target}`);
  }
  const ids = [...page.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) found.unlabelled.push("an id stands twice");
  // What the browser has fetched, and what it would fetch: files are not on its list.
  found.requests = view.performance.getEntriesByType("resource").map((entry) => entry.name);
  for (const element of page.querySelectorAll("[src], [srcset], [data], link[href], use, image, [style]")) {
    const places = ["src", "srcset", "data", "href", "xlink:href"]
      .map((place) => element.getAttribute(place))
      .filter(Boolean);
    found.requests.push(...places, ...(element.getAttribute("style")?.match(/url\(.*/) || []));
  }
  for (const style of page.querySelectorAll("style")) {
    found.requests.push(...(style.textContent.match(/url\(.*|@import.*/g) || []));
  }
  return found;
}
