/* Fills in the report's contents, draws its charts, and prepares it for paper. What is drawn is in charts.js. */
"use strict";
for (const link of document.querySelectorAll(".dbkit-contents a:empty")) {
  link.textContent = document.querySelector(`${link.getAttribute("href")} h2`).textContent;
}

const { timeline, columns_of_slots: columns, parts } = JSON.parse(document.getElementById("dbkit-data").textContent);
for (const part of parts) {
  part.slots = part.slots.map((row) => Object.fromEntries(columns.map((column, place) => [column, row[place]])));
}

// each draws what belongs to the workload of its element
const drawings = {
  ladder: (element, { ladder, all, looks, limits }) =>
    dbkitCharts.ladder(element, { ladder, rows: all, column: element.dataset.quantity, looks, limits, yTitle: element.dataset.title }),
  verdicts: (element, { verdicts, looks }) => dbkitCharts.verdicts(element, verdicts.filter(({ quantity, differs_in }) =>
    quantity === element.dataset.quantity && differs_in === element.dataset.differs), looks),
  fastest: (element, { against_fastest, looks }) => dbkitCharts.verdicts(element, against_fastest, looks),
  latency: (element, { strategies, looks }) => dbkitCharts.latency(element, strategies, looks),
  parts: (element, { strategies, looks }) => dbkitCharts.parts(element, strategies, looks),
  counts: (element, { strategies, looks }) => dbkitCharts.counts(element, strategies, looks),
  slots: (element, { slots, looks }) =>
    dbkitCharts.slots(element, { slots, column: element.dataset.column, looks, yTitle: element.dataset.title }),
  timeline: (element, { looks }) => dbkitCharts.overTime(element, {
    series: dbkitCharts.seriesOfTimeline(timeline, element.dataset.column), looks, yTitle: element.dataset.title,
    log: element.dataset.column === "p95_ms", users: dbkitCharts.usersOfTimeline(timeline),
  }),
};
const drawOne = (element) => drawings[element.dataset.chart](element, parts[element.dataset.part]);
const draw = () => document.querySelectorAll(".dbkit-chart").forEach(drawOne);

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// on paper everything is open, and the charts are drawn in ink as wide as the sheet
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open]):not(.dbkit-screen)")];
  for (const details of closed) details.open = true;
  document.body.classList.add("dbkit-printing");
  draw();
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  document.body.classList.remove("dbkit-printing");
  draw();
});
