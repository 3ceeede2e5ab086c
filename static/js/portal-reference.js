// The API reference. What it shows comes from the page's own attributes, never from its address (security.md P4).
const place = document.getElementById("reference");
const fallback = document.querySelector("[data-fallback]");

const isDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
};

const themed = `
.light-mode, .dark-mode {
  --scalar-background-1: var(--bg); --scalar-background-2: var(--sunken); --scalar-background-3: var(--hover);
  --scalar-background-accent: var(--brand-tint); --scalar-border-color: var(--line);
  --scalar-color-1: var(--text); --scalar-color-2: var(--text-2); --scalar-color-3: var(--text-3); --scalar-color-accent: var(--brand);
  --scalar-button-1: var(--brand); --scalar-button-1-hover: var(--brand-hover); --scalar-button-1-color: var(--on-brand);
  --scalar-color-green: var(--ok); --scalar-color-red: var(--danger); --scalar-color-orange: var(--warn); --scalar-color-blue: var(--info);
  --scalar-color-yellow: var(--warn); --scalar-color-purple: var(--text-2);
  --scalar-font: var(--sans); --scalar-font-code: var(--mono); --scalar-radius: var(--radius); --scalar-radius-lg: var(--radius-panel);
  --scalar-sidebar-background-1: var(--bg); --scalar-sidebar-border-color: var(--line);
}`;

const draw = (content) => window.Scalar.createApiReference(place, {
  content,
  ...(place.dataset.relay ? { proxyUrl: place.dataset.relay } : {}),
  theme: "none",
  customCss: themed,
  darkMode: isDark(),
  forceDarkModeState: isDark() ? "dark" : "light",
  hideDarkModeToggle: true,
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true },
  mcp: { disabled: true },
  documentDownloadType: "none",
  persistAuth: false,
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  onLoaded: () => { fallback.dataset.drawn = ""; },
});

// Fetched here, not by Scalar: it would send the document through the relay, which serves the gateway alone.
const response = await fetch(place.dataset.document);
if (response.ok) draw(await response.json());
