/* The Strategies tab in Locust's web UI: mounts beside Locust's application, shows itself while ?tab=strategies is
   chosen there, and asks for what is new. What it shows is made by dbkit.load.web, drawn by charts.js. */

(() => {
  "use strict";

  const KEY = "strategies";
  const ASK_EVERY_MS = 1500;
  const PATH = new URL("./dbkit/", document.baseURI);
  const DOWNLOADS = { "report.html": "report", "summary.md": "summary", "strategies.csv": "strategies.csv", "slots.csv": "slots.csv", "comparison.json": "comparison.json" };
  const CHARTS = {
    ladder: "Pages a second",
    ladder95: "p95 of the response time",
    ladderlimit: "",
    pages: "Pages a second",
    p95: "p95 of the response time",
    parts: "Where a page's time goes",
    latency: "Latency distribution",
    verdicts: "As a multiple of the reference's: pages a second, or p95 in an open loop",
  };

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // What is on the page

  const words = element("span", { id: "dbkit-status" }, "asking Locust …");
  const bar = element("progress", { max: 1, value: 0, hidden: "" });
  const links = element("nav", { class: "dbkit-downloads", "aria-label": "downloads", hidden: "" }, "Download: ", ...Object.entries(DOWNLOADS).map(
    ([name, title]) => element("a", { href: new URL(`download/${name}`, PATH), download: "" }, title),
  ));
  const answer = element("div", { id: "dbkit-answer" });
  const workloads = element("div", { id: "dbkit-workloads" });

  /* The place of one workload: its table, charts and reasons. Those of the first have names that others can rely on. */
  const makePlace = (number) => {
    const above = element("div");
    const below = element("div");
    const figures = {};
    const charts = element("div", { class: "dbkit-charts" }, ...Object.entries(CHARTS).map(([name, title]) => {
      const heading = element("h3", {}, title);
      const chart = element("div", { class: "dbkit-chart", id: `dbkit-${name}${number ? `-${number + 1}` : ""}` });
      figures[name] = { heading, chart, section: element("section", {}, heading, chart) };
      return figures[name].section;
    }));
    return { above, below, figures, whole: element("div", {}, above, charts, below) };
  };
  const places = [];
  const toForm = element("a", { href: "./", class: "dbkit-to-form" }, "Start a run");
  const tab = element("main", { id: "dbkit", class: "dbkit", hidden: "" },
    element("div", { class: "dbkit-status" }, words, bar, links, toForm), answer, workloads);
  const link = element("p", { id: "dbkit-link", class: "dbkit", hidden: "" },
    element("a", { href: `?tab=${KEY}` }, "Strategies: results, live and of the last run"));
  document.body.append(link, tab);

  // Which of Locust's tabs is shown

  const locust = document.getElementById("root");
  const isChosen = () => new URLSearchParams(location.search).get("tab") === KEY;
  const isForm = () => locust.childElementCount > 0 && locust.querySelector('[role="tab"]') === null;

  const place = () => {
    const chosen = isChosen();
    const form = isForm();
    tab.hidden = !chosen;
    link.hidden = chosen || !form;
    toForm.hidden = !form;
    document.body.classList.toggle("dbkit-chosen", chosen);
    document.body.classList.toggle("dbkit-instead-of-form", chosen && form);
    if (chosen) ask();
  };

  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    history[name] = function (...args) {
      original.apply(this, args);
      place();
    };
  }
  addEventListener("popstate", place);
  document.addEventListener("visibilitychange", place);
  new MutationObserver(() => {
    if (link.hidden === isForm() || toForm.hidden === isForm()) place();
  }).observe(locust, { childList: true, subtree: true });

  // What is new

  let version = null;
  let shown = null;
  let asking = false;
  let timer = null;

  const load = (name) => new Promise((resolve, reject) => {
    const script = element("script", { src: new URL(name, PATH) });
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${name} did not load`));
    document.head.append(script);
  });
  let loading = null;
  const loadCharts = () => (loading ||= load("plotly.js").then(() => load("charts.js")));

  const ask = async () => {
    if (asking || !isChosen() || document.hidden) return;
    asking = true;
    clearTimeout(timer);
    const began = performance.now();
    try {
      await loadCharts();
      const answer = await fetch(new URL(`state?version=${version}`, PATH), { cache: "no-store" });
      if (!answer.ok || answer.redirected) throw new Error(`Locust answered ${answer.status}`);
      const state = await answer.json();
      if (isForm() && state.state !== "ready") {
        location.reload(); // somebody else has started a run: Locust shows its tabs then
        return;
      }
      showStatus(state.status);
      if (state.version !== version) {
        version = state.version;
        shown = state.result;
        show();
      }
    } catch (error) {
      showStatus({ words: `Locust does not answer (${error.message}); trying again`, done: null });
      loading = typeof dbkitCharts === "undefined" ? null : loading;
    } finally {
      asking = false;
      timer = setTimeout(ask, Math.max(0, ASK_EVERY_MS - (performance.now() - began)));
    }
  };

  const showStatus = ({ words: text, done }) => {
    if (words.textContent !== text) words.textContent = text;
    bar.hidden = done === null;
    bar.value = done || 0;
  };

  const show = () => {
    answer.innerHTML = shown === null ? "" : shown.answer;
    links.hidden = shown === null;
    const found = shown === null ? [] : shown.workloads;
    while (places.length < found.length) {
      places.push(makePlace(places.length));
      workloads.append(places.at(-1).whole);
    }
    places.forEach(({ above, below, whole }, number) => {
      whole.hidden = number >= found.length;
      above.innerHTML = whole.hidden ? "" : found[number].above;
      below.innerHTML = whole.hidden ? "" : found[number].below;
    });
    draw();
  };

  const draw = () => {
    if (shown !== null) shown.workloads.forEach((workload, number) => drawOne(workload, places[number].figures));
  };

  const drawOne = ({ strategies, looks, slots, parts, verdicts, ladder, all, limits }, figures) => {
    const { timeline } = shown;
    const series = (column) => (timeline ? dbkitCharts.seriesOfTimeline(timeline, column) : dbkitCharts.seriesOfSlots(slots, column));
    const users = timeline ? dbkitCharts.usersOfTimeline(timeline) : null;
    figures.parts.heading.textContent = CHARTS.parts + (shown.parts_are_recent ? ", in the last seconds" : "");
    figures.verdicts.section.hidden = verdicts.length === 0;
    const searched = limits.length && !["pages_per_s", "p95_ms"].includes(limits[0].figure) ? limits[0].figure : null;
    for (const [name, column, yTitle] of [["ladder", "pages_per_s", "pages/s"], ["ladder95", "p95_ms", "p95, ms"], ["ladderlimit", searched, searched]]) {
      figures[name].section.hidden = ladder === null || column === null;
      if (figures[name].section.hidden) continue;
      figures[name].heading.textContent = `${CHARTS[name] || column}, along ${ladder.along}`;
      dbkitCharts.ladder(figures[name].chart, { ladder, rows: all, column, looks, limits, yTitle });
    }
    dbkitCharts.overTime(figures.pages.chart, { series: series("pages_per_s"), looks, yTitle: "pages/s", users });
    dbkitCharts.overTime(figures.p95.chart, { series: series("p95_ms"), looks, yTitle: "p95, ms", log: true, users });
    dbkitCharts.parts(figures.parts.chart, parts, looks);
    dbkitCharts.latency(figures.latency.chart, strategies, looks);
    if (verdicts.length) dbkitCharts.verdicts(figures.verdicts.chart, verdicts, looks);
  };

  // Locust changes between light and dark by the colours of the body; charts take theirs from it
  let colour = getComputedStyle(document.body).color;
  new MutationObserver(() => {
    const now = getComputedStyle(document.body).color;
    if (now !== colour) {
      colour = now;
      if (!tab.hidden) draw();
    }
  }).observe(document.head, { childList: true, subtree: true, characterData: true });

  place();
})();
