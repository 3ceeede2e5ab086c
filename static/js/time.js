// "3 minutes ago" stays true while a page stands open.
const STEPS = [[60, "second"], [3600, "minute"], [86400, "hour"], [2592000, "day"], [31536000, "month"], [Infinity, "year"]];
const SIZE = { second: 1, minute: 60, hour: 3600, day: 86400, month: 2592000, year: 31536000 };
const words = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" });

const refresh = () => {
  for (const element of document.querySelectorAll("time[datetime]:not([data-fixed])")) {
    const seconds = (new Date(element.dateTime) - Date.now()) / 1000;
    if (Number.isNaN(seconds)) continue;
    const [, unit] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
    element.textContent = words.format(Math.round(seconds / SIZE[unit]), unit);
  }
};
refresh();
setInterval(refresh, 20_000);
document.addEventListener("htmx:afterSwap", refresh);
