// Counters become rates; what was seen is kept for two minutes.

const KEPT_MS = 120_000;
const WINDOW_MS = 60_000;

// A counter that falls began again, with the process or with its server: nothing is known of that moment, and the
// lines have a gap there.
class Memory {
  constructor() {
    this.series = new Map();
    this.windows = new Map();
    this.now = 0;
  }

  // All that is told until `end` is of this moment.
  begin(now) {
    this.now = now;
  }

  // Whoever was not mentioned is gone, and begins anew when it comes back.
  end() {
    for (const kept of [this.series, this.windows]) {
      for (const [key, { seen }] of kept) {
        if (seen !== this.now) kept.delete(key);
      }
    }
  }

  clear() {
    this.series.clear();
    this.windows.clear();
  }

  // The rate of a counter since the last time; null when that is not known.
  rate(key, counter) {
    const series = this.of(key);
    const { last } = series;
    const known = last && counter >= last.counter && this.now > last.at;
    const rate = known ? ((counter - last.counter) * 1000) / (this.now - last.at) : null;
    series.last = { counter, at: this.now };
    this.keep(series, rate);
    return rate;
  }

  // A value that is what it is.
  gauge(key, value) {
    this.keep(this.of(key), value);
    return value;
  }

  points(key) {
    return this.series.get(key)?.points ?? [];
  }

  // What `sample` was a minute ago, or when it was first seen since `total` began to count.
  aMinuteAgo(key, total, sample) {
    const window = this.windows.get(key) ?? { samples: [] };
    this.windows.set(key, window);
    if (total < window.total) window.samples = [];
    window.total = total;
    window.seen = this.now;
    window.samples.push({ at: this.now, sample });
    while (window.samples[0].at < this.now - WINDOW_MS) window.samples.shift();
    return window.samples[0].sample;
  }

  of(key) {
    const series = this.series.get(key) ?? { points: [], last: null };
    this.series.set(key, series);
    return series;
  }

  keep(series, value) {
    series.seen = this.now;
    series.points.push({ at: this.now, value });
    while (series.points[0].at < this.now - KEPT_MS) series.points.shift();
  }
}

function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

// The sum of those rates that are known; null when none is.
function sumOfKnown(rates) {
  const known = rates.filter((rate) => rate !== null);
  return known.length > 0 ? sum(known) : null;
}

// The upper bound below which this part of what was counted between two histograms lies; null without any.
function quantile(before, after, part) {
  const total = after.count - before.count;
  if (total <= 0) return null;
  let below = 0;
  for (const [place, [bound, counted]] of after.buckets.entries()) {
    below += counted - (before.buckets[place]?.[1] ?? 0);
    if (below >= part * total) return bound;
  }
  return Infinity;
}
