/** How figures are written. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes with the largest unit of which there is one. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Seconds as the two largest units that it has. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  const told = first < 0 ? [parts[3]] : parts.slice(first, first + 2);
  return told.map(([count, unit]) => `${count}${unit}`).join(" ");
}

/** Share of one CPU, in per cent. */
export function percent(share) {
  return `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

const TIME = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const DATE = new Intl.DateTimeFormat();
const DAY = 86400_000;

/** A moment (RFC 3339) in this browser's time zone: the time, and the date if that is longer ago. */
export function moment(at) {
  const date = new Date(at);
  const time = TIME.format(date);
  return Date.now() - date < DAY ? time : `${DATE.format(date)} ${time}`;
}

/** Seconds since a moment (RFC 3339). */
export function since(at) {
  return (Date.now() - Date.parse(at)) / 1000;
}

/** The labels of a flow, as they are searched for. */
export function labels(flow) {
  return Object.entries(flow.labels).map(([key, value]) => `${key}=${value}`);
}

/** What is asked for where something else is observed; null where it is as it should be. */
export function missed(flow) {
  return flow.desired === flow.status || flow.status === "completed" ? null : flow.desired;
}

/** How a process ended, in a few words. */
export function ending(exit) {
  if (exit.signal !== null) {
    return `signal ${exit.signal}`;
  }
  return exit.code === null ? exit.reason : `exit code ${exit.code}`;
}

/** "1 flow", "2 flows". */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** Names that are told one by one. */
const NAMED = 10;

/** Names, but not more than can be read. */
export function listed(names) {
  const more = names.length - NAMED;
  return more > 0 ? `${names.slice(0, NAMED).join(", ")} and ${more} more` : names.join(", ");
}
