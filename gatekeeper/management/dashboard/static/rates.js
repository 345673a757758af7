// From counters that only go up to what happened between two looks at them.

/** Looks at the counters that are kept: a quarter of an hour, at one every two seconds. */
const MOST = 450;

/** Latencies are those of the requests that ended within so many seconds. */
const WINDOW = 30;

/** Lines that a chart has at the most; what is left over is one more. */
export const MOST_LINES = 5;

/** What verdicts are told apart, with their colours. */
const VERDICTS = { granted: 2, denied: 1, "in trouble": 3 };

/** The colour of what has no name of its own. */
const REST = 5;

export class Looks {
  #looks = [];

  /** Take in a document of dashboard/data. Another process begins anew. */
  add(document) {
    const look = {
      time: document.time,
      services: new Map(Object.entries(document.services).map(([name, s]) => [name, s.ok + s.others])),
      verdicts: sumVerdicts(document.decisions),
      latency: document.latency.counts,
    };
    const last = this.#looks.at(-1);
    if (last && (look.time <= last.time || sum(look.latency) < sum(last.latency))) this.#looks = [];
    this.#looks.push(look);
    if (this.#looks.length > MOST) this.#looks.shift();
  }

  get times() {
    return this.#looks.slice(1).map((look) => look.time);
  }

  /** Requests per second of each service, the busiest first: [{name, values}]. */
  requests() {
    const last = this.#looks.at(-1);
    const first = this.#looks[0];
    const busy = (name) => last.services.get(name) - (first.services.get(name) ?? 0);
    const names = [...last.services.keys()].sort((a, b) => busy(b) - busy(a));
    return gather(names.map((name) => ({
      name: name || "(no service)",
      colour: name ? undefined : REST,
      values: this.#rates((look) => look.services.get(name) ?? 0),
    })));
  }

  /** Decisions per second, by what was decided. */
  decisions() {
    return Object.entries(VERDICTS).map(([name, colour]) => ({
      name,
      colour,
      values: this.#rates((look) => look.verdicts[name]),
    }));
  }

  /** Latencies in seconds below which 50, 95 and 99 percent of the requests stayed; or null. */
  latency(bounds) {
    return [0.5, 0.95, 0.99].map((part, colour) => ({
      name: `p${part * 100}`,
      colour,
      values: this.#looks.slice(1).map((look, index) => {
        let before = index;
        while (before > 0 && look.time - this.#looks[before].time < WINDOW) before -= 1;
        const counts = look.latency.map((number, i) => number - this.#looks[before].latency[i]);
        return quantile(bounds, counts, part);
      }),
    }));
  }

  #rates(number) {
    return this.#looks.slice(1).map((look, index) => {
      const before = this.#looks[index];
      return Math.max(0, number(look) - number(before)) / (look.time - before.time);
    });
  }
}

/** The value below which `part` of all lie, by linear interpolation; null where there are none.
 * `counts` has one class more than `bounds`: what is above the last. */
export function quantile(bounds, counts, part) {
  const all = sum(counts);
  if (all <= 0) return null;
  let left = part * all;
  for (const [index, bound] of bounds.entries()) {
    if (left <= counts[index]) {
      const lower = index ? bounds[index - 1] : 0;
      return lower + ((bound - lower) * left) / counts[index];
    }
    left -= counts[index];
  }
  return bounds.at(-1);
}

/** The first lines, and one for the sum of the rest. */
export function gather(lines) {
  if (lines.length <= MOST_LINES) return lines;
  const rest = lines.slice(MOST_LINES);
  const values = rest[0].values.map((_, i) => sum(rest.map((line) => line.values[i] ?? 0)));
  return [...lines.slice(0, MOST_LINES), { name: `${rest.length} others`, values, colour: REST }];
}

export const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

function sumVerdicts(decisions) {
  const sums = Object.fromEntries(Object.keys(VERDICTS).map((name) => [name, 0]));
  for (const { verdict, number } of decisions) {
    sums[verdict in sums ? verdict : "in trouble"] += number;
  }
  return sums;
}
