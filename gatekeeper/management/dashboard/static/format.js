// Numbers, sizes and times in words.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const count = (number) => plain.format(number);
export const compact = (number) => (number < 10_000 ? few.format(number) : short.format(number));

/** Bytes, in steps of 1024. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; number >= 1000 && step < units.length - 1; step += 1) number /= 1024;
  return `${step ? few.format(number) : plain.format(number)} ${units[step]}`;
}

/** Seconds: "850 µs", "12 ms", "3.4 s", "5 min 20 s", "2 h 5 min". */
export function duration(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${few.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${few.format(seconds * 1e3)} ms`;
  if (seconds < 60) return `${few.format(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

/** A time in RFC 3339, or in seconds since the epoch. */
export function time(value) {
  return moment.format(typeof value === "number" ? value * 1000 : Date.parse(value));
}
