// <api-chart src kind unit label library>: reads JSON {x, series, unit?, scale?, note?}, draws it in the theme's colours, and fills
// the table that says the same. Drawn as SVG: it prints and zooms sharply, and it keeps within the CSP.
let library;
const load = (src) => (library ??= new Promise((resolve, reject) => {
  const script = Object.assign(document.createElement("script"), { src, onload: () => resolve(window.echarts), onerror: reject });
  document.head.append(script);
}));

// ECharts wants plain colours: the browser resolves light-dark() for us.
const resolver = (host) => {
  const probe = document.createElement("i");
  probe.hidden = true;
  host.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  return { read, done: () => probe.remove() };
};

const number = new Intl.NumberFormat(document.documentElement.lang || "en", { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat(document.documentElement.lang || "en", { notation: "compact" });
// An axis says its unit; thousands of milliseconds read as seconds.
const measured = (value, unit) => (unit === "ms" && value >= 1000 ? `${compact.format(value / 1000)} s` : `${compact.format(value)} ${unit}`.trim());
const still = matchMedia("(prefers-reduced-motion: reduce)");

class ApiChart extends HTMLElement {
  connectedCallback() {
    this.canvas = this.querySelector(".chart-canvas");
    this.redraw = () => this.data && this.draw();
    this.size = new ResizeObserver(() => this.chart?.resize());
    this.size.observe(this.canvas);
    document.addEventListener("themechange", this.redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.redraw);
    this.refresh();
  }

  disconnectedCallback() {
    this.size.disconnect();
    document.removeEventListener("themechange", this.redraw);
    this.chart?.dispose();
    this.chart = null;
  }

  static observedAttributes = ["src"];
  attributeChangedCallback(name, before) {
    if (before !== null && this.isConnected) this.refresh();
  }

  async refresh() {
    try {
      const answer = await fetch(this.getAttribute("src"), { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`${answer.status}`);
      this.data = await answer.json();
    } catch (error) {
      return this.say(`The figures could not be loaded (${error.message}). Reload to try again.`);
    }
    if (!this.data.series?.some((series) => series.data.length)) return this.say(this.data.note ?? "No data in this period.");
    this.fillTable();
    await load(this.getAttribute("library"));
    if (this.isConnected) this.draw();
  }

  say(text) {
    this.chart?.dispose();
    this.chart = null;
    const note = Object.assign(document.createElement("div"), { className: "chart-note", textContent: text });
    this.canvas.replaceChildren(note);
  }

  draw() {
    if (!this.chart) {
      this.canvas.replaceChildren();
      this.chart = window.echarts.init(this.canvas, null, { renderer: "svg" });
    }
    const colours = resolver(this);
    this.chart.setOption(this.option(colours.read), true);
    colours.done();
    const label = this.getAttribute("label");
    this.canvas.setAttribute("role", "img");
    if (label) this.canvas.setAttribute("aria-label", label);
  }

  option(colour) {
    const kind = this.data.kind ?? this.getAttribute("kind") ?? "line";
    const unit = this.data.unit ?? this.getAttribute("unit") ?? "";
    const text = { color: colour("text-2"), fontFamily: getComputedStyle(this).fontFamily, fontSize: 12 };
    const axis = { axisLabel: { ...text, color: colour("text-3"), hideOverlap: true }, axisTick: { show: false } };
    const times = typeof this.data.x?.[0] === "number" || /^\d{4}-\d\d-\d\dT/.test(this.data.x?.[0] ?? "");
    return {
      animation: !still.matches,
      animationDuration: 180,
      aria: { enabled: true },
      textStyle: text,
      grid: { left: 4, right: 12, top: this.data.series.length > 1 ? 32 : 12, bottom: 4, containLabel: true },
      legend: { show: this.data.series.length > 1, top: 0, left: 0, icon: "roundRect", itemWidth: 10, itemHeight: 10, textStyle: text },
      tooltip: {
        trigger: "axis", renderMode: "richText", confine: true, backgroundColor: colour("panel"), borderColor: colour("line"),
        textStyle: { ...text, color: colour("text") }, axisPointer: { lineStyle: { color: colour("control") } },
        valueFormatter: (value) => (value == null ? "–" : `${number.format(value)} ${unit}`.trim()),
      },
      xAxis: {
        ...axis, type: times ? "time" : "category", data: times ? undefined : this.data.x, boundaryGap: kind === "bar" || kind === "stack",
        axisLine: { lineStyle: { color: colour("line") } },
      },
      yAxis: {
        ...axis, ...(this.data.scale === "log" ? { type: "log" } : { type: "value", min: 0, splitNumber: 3 }),
        splitLine: { lineStyle: { color: colour("line") } }, axisLabel: { ...axis.axisLabel, formatter: (value) => measured(value, unit) },
      },
      series: this.data.series.map((series, index) => this.series(series, index, kind, times, colour)),
    };
  }

  series(series, index, kind, times, colour) {
    const own = series.color ? colour(`chart-${series.color}`) : index < 6 ? colour(`chart-${index + 1}`) : colour("text-3");
    const bars = kind === "bar" || kind === "stack";
    const values = this.data.scale === "log" ? series.data.map((value) => value || null) : series.data; // a logarithm has no zero
    return {
      name: series.name, type: bars ? "bar" : "line", color: own, stack: kind === "stack" || kind === "area" ? "all" : undefined,
      data: times ? values.map((value, at) => [this.data.x[at], value]) : values,
      symbol: "none", barMaxWidth: 24, lineStyle: { width: 1.75, type: series.dashed ? "dashed" : "solid" },
      areaStyle: kind === "area" ? { opacity: 0.22 } : undefined, connectNulls: false,
    };
  }

  fillTable() {
    const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const row = (cells) => { const line = document.createElement("tr"); line.append(...cells); return line; };
    const head = [cell("th", this.data.xlabel ?? ""), ...this.data.series.map((series) => cell("th", series.name))];
    const value = (item) => (item == null ? "–" : number.format(item));
    const when = (item) => (/^\d{4}-\d\d-\d\dT/.test(item) ? new Date(item).toISOString().slice(0, 16).replace("T", " ") : item);
    const lines = (this.data.x ?? []).map((x, at) =>
      row([cell("td", when(x)), ...this.data.series.map((series) => cell("td", value(series.data[at])))]));
    this.querySelector("thead").replaceChildren(row(head));
    this.querySelector("tbody").replaceChildren(...lines);
  }
}
customElements.define("api-chart", ApiChart);
