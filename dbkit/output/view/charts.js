/* The charts of the report and of the tab in Locust's web UI: each function draws into an element, by Plotly.

   Drawing again into the same element is cheap and keeps zoom and hidden classes. Rows, slots, verdicts, timeline and
   looks are as the JSON file and dbkit.output.looks have them. Colours of text and lines come from the element's own style.
   The global Plotly has to be there; nothing is fetched. */

const dbkitCharts = (() => {
  "use strict";

  /* Of the response time, in the order in which they begin. Violet is no strategy's colour; neighbours are light and dark. */
  const PARTS = {
    queue_ms: { name: "queue", color: "#33207a", pattern: "/", onIt: "#fff" },
    pool_ms: { name: "pool", color: "#bab6e8", pattern: "x", onIt: "#33207a" },
    connect_ms: { name: "connect", color: "#f8f6ff", pattern: ".", onIt: "#33207a" },
    server_wait_ms: { name: "db", color: "#5b3fc0", pattern: "", onIt: "#fff" },
    answer_wait_ms: { name: "answer wait", color: "#a070ff", pattern: "-", onIt: "#33207a" },
    client_ms: { name: "client", color: "#d9cef7", pattern: "\\", onIt: "#33207a" },
  };
  const COUNTS = { statements: "statements", round_trips: "round trips", rows: "rows" };
  const DASHES = ["solid", "dash", "dot", "longdash", "dashdot", "longdashdot", "9px 3px 2px 3px 2px 3px", "1px 7px"];
  const SHARES = [0, 0.5, 0.9, 0.99, 0.999, 0.9999];
  const LONGEST_NAME = 30;
  const ROW_PX = 23;
  const CONFIG = {
    displaylogo: false, responsive: true, plotlyServerURL: "", showSendToCloud: false, showEditInChartStudio: false,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "resetScale2d", "sendChartToCloud"],
    doubleClick: "autosize", // to reset would go back to what was drawn first, of which a run has outgrown the ranges
  };

  // Words and numbers

  /* Text that Plotly shows as it is: it would read tags in it. */
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  /* Cut to the length of a name; of a condition, in the name of its class, as the rest says what it is. */
  const short = (text) => {
    const [name, ...others] = String(text).split(", ");
    const rest = others.length ? `, ${others.join(", ")}` : "";
    const room = Math.max(LONGEST_NAME - [...rest].length, 8);
    const letters = [...name];
    return plain((letters.length > room ? letters.slice(0, room - 1).join("") + "…" : name) + rest);
  };

  /* As dbkit.analysis.formats has it: three significant digits, no more than three decimals. */
  const number = (value) => {
    if (value === null || value === undefined) return "";
    if (value >= 100) return value.toFixed(0);
    return value >= 0.1 || value === 0 ? String(Number(value.toPrecision(3))) : value.toFixed(3);
  };

  /* In the order of the looks, which is that of the tables. What has no look is not drawn. */
  const inOrder = (rows, looks) => Object.keys(looks).flatMap((condition) => rows.filter((row) => row.condition === condition));

  const labelled = (conditions, looks) => conditions.map((condition) => {
    const { color, glyph, label } = looks[condition];
    return `<span style="color:${color}">${glyph}</span> ${short(label)}`;
  });

  // What all charts have in common

  /* The colour of the element's text, `alpha` of it. Drawn and read back, as browsers write colours in many ways. */
  const ink = (element, alpha = 1) => {
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    context.fillStyle = getComputedStyle(element).color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return `rgba(${red},${green},${blue},${alpha})`;
  };

  /* What a trace is of, by which it is known when it is drawn again. Plotly makes a selector of its uid. */
  const identity = (condition, column = "") => ({
    uid: `${column}-${condition.replace(/[^A-Za-z0-9]/gu, (each) => `_${each.codePointAt(0)}_`)}`, meta: condition,
  });

  const axis = (element, title, more) => ({
    title: { text: title, standoff: 8 }, automargin: true, zeroline: false,
    color: ink(element, 0.82), gridcolor: ink(element, 0.11), linecolor: ink(element, 0.3), ...more,
  });

  /* An axis with a line for each condition, the first on top. */
  const conditionAxis = (element, conditions, looks, more) => axis(element, "", {
    tickvals: conditions.map((_, place) => place), ticktext: labelled(conditions, looks), range: [conditions.length - 0.5, -0.5],
    tickfont: { color: ink(element) }, showgrid: false, ticks: "", fixedrange: true, ...more,
  });

  const draw = (element, traces, layout) => {
    const style = getComputedStyle(element);
    return Plotly.react(element, traces, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, uirevision: "dbkit",
      font: { family: style.fontFamily, size: 12, color: ink(element) },
      margin: { l: 8, r: 12, t: 12, b: 8 }, hovermode: "closest",
      hoverlabel: { font: { family: style.fontFamily }, namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: ink(element, 0.35), activecolor: ink(element, 0.8) },
      ...layout,
    }, CONFIG);
  };

  /* The looks of lines, of which conditions that differ in their load alone share one. */
  const lineLooks = (looks) => [...new Map(Object.values(looks).map((look) => [look.line, look])).values()];

  /* In pixels, of the longest name in the legend; other entries than classes have up to 15 letters. */
  const entryWidth = (looks) => Math.max(15, ...lineLooks(looks).map((look) => Math.min(look.line.length, LONGEST_NAME + 8))) * 6.6 + 8;

  /* Below the chart, a group for each strategy, so that fifteen classes stay readable. */
  const legend = (element, looks) => ({
    orientation: "h", x: 0, y: -0.16, yanchor: "top", groupclick: "toggleitem", tracegroupgap: 4,
    font: { size: 11.5, color: ink(element, 0.9) }, bgcolor: "rgba(0,0,0,0)", entrywidth: entryWidth(looks),
  });

  /* The height that the legend takes, `more` being further groups of so many lines. */
  const legendRoom = (element, looks, more = []) => {
    const lines = {};
    for (const { strategy } of lineLooks(looks)) lines[strategy] = (lines[strategy] || 0) + 1;
    const groups = [...Object.values(lines), ...more];
    const rows = Math.ceil(groups.length / Math.max(1, Math.floor((element.clientWidth - 70) / (entryWidth(looks) + 45))));
    return 60 + rows * 19 * (Math.max(...groups, 1) + 1);
  };

  /* How the line of a class looks, and where it stands in the legend: strategies in the order of their first class. One
     that is called as its only class has no title. */
  const line = (condition, looks, more) => {
    const look = looks[condition];
    const named = Object.values(looks).some((each) => each.strategy === look.strategy && each.line !== each.strategy);
    return {
      ...identity(condition), name: short(look.line), type: "scatter", mode: "lines+markers",
      legendgroup: look.strategy, legendgrouptitle: { text: named ? short(look.strategy) : "" },
      line: { color: look.color, dash: look.dash, width: 1.6 },
      marker: { color: look.color, symbol: look.symbol, size: 8 },
      hovertemplate: `%{text}<extra>${plain(look.label)}</extra>`, ...more,
    };
  };

  const pointsOverTime = ({ condition, x, y, open }, looks, yTitle, width, size) => {
    const { color, symbol, dash } = looks[condition];
    const isOpen = (place) => Boolean(open && open[place]);
    const words = y.map((value, place) =>
      `${number(value)} ${yTitle} at ${number(x[place])} s${isOpen(place) ? "<br>disturbed, incomplete or run again" : ""}`);
    return line(condition, looks, {  // first a point that is not drawn: the legend shows the marker of the first
      x: [null, ...x], y: [null, ...y], text: ["", ...words], line: { color, dash, width },
      marker: {
        color, size, symbol: [symbol, ...x.map((_, place) => symbol + (isOpen(place) ? "-open" : ""))],
        maxdisplayed: open ? 0 : 15,  // windows are many and alike; of slots each is shown
      },
    });
  };

  /* Few round numbers between two, for a logarithmic axis, whether that spans decades or a few per cent. */
  const logTicks = (low, high) => {
    const ticks = [];
    if (high / low > 1.6) {
      const [, digits] = [[1000, [1]], [8, [1, 2, 5]], [3, [1, 1.5, 2, 3, 5, 7]], [0, [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]]
        .find(([span]) => high / low > span);
      for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade += 1) {
        for (const digit of digits) ticks.push(Number((digit * 10 ** decade).toPrecision(3)));
      }
      return ticks.filter((tick) => tick >= low && tick <= high);
    }
    const unit = 10 ** Math.floor(Math.log10(high - low) - 0.1);
    const step = [1, 2, 5, 10].map((each) => each * unit).find((each) => (high - low) / each <= 5);
    for (let place = Math.ceil(low / step); place * step <= high; place += 1) ticks.push(Number((place * step).toPrecision(6)));
    return ticks;
  };

  /* A logarithmic axis around values; those that have no logarithm are left out. */
  const logAxis = (values) => {
    const known = values.filter((value) => Number.isFinite(value) && value > 0);
    const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [1, 1];
    const room = Math.max(Math.log10(most / least) * 0.06, 0.006);
    const ends = [Math.log10(least) - room, Math.log10(most) + room];
    const tickvals = logTicks(10 ** ends[0], 10 ** ends[1]);
    return { type: "log", range: ends, tickvals, ticktext: tickvals.map(String) };
  };

  // The charts

  /* Lines over the seconds of the run. `series` is a list of {condition, x, y, open}: `open`, where it is given, says
     which markers are drawn open. `users`, {x, y}, is drawn behind. */
  const overTime = (element, { series, looks, yTitle, log = false, users = null }) => {
    const traces = inOrder(series, looks).map((each) => pointsOverTime(each, looks, yTitle, 1.6, 8));
    if (users) {
      traces.push({
        uid: "users", name: "users", type: "scatter", mode: "lines", x: users.x, y: users.y, yaxis: "y2",
        line: { color: ink(element, 0.35), shape: "hv", width: 1.2 }, showlegend: false,
        text: users.y.map((value) => `${number(value)} users`), hovertemplate: "%{text}<extra></extra>",
      });
    }
    return draw(element, traces, {
      height: 330 + legendRoom(element, looks), legend: legend(element, looks), showlegend: true,
      xaxis: axis(element, "seconds of the run"),
      yaxis: axis(element, yTitle, log ? logAxis(series.flatMap(({ y }) => y)) : { rangemode: "tozero" }),
      yaxis2: axis(element, "users", {
        overlaying: "y", side: "right", showgrid: false, rangemode: "tozero", tickmode: "auto", nticks: 5, visible: Boolean(users),
      }),
    });
  };

  /* A quantity (`column`) of each class along its load or another number, with intervals; see dbkit.analysis.ladders. Limits
     on that quantity are lines across. */
  const ladder = (element, { ladder: { along, lines }, rows, column, looks, limits = [], yTitle = column }) => {
    const byCondition = new Map(rows.map((row) => [row.condition, row]));
    const taken = new Set();
    const dashOf = ({ color, dash }) => {  // lines along a setting are fewer than the settings, and need other dashes
      const free = [dash, ...DASHES].find((each) => !taken.has(color + each)) || dash;
      taken.add(color + free);
      return free;
    };
    const inMs = column.endsWith("_ms");
    const unit = column === "pages_per_s" ? "pages/s" : inMs ? "ms" : "";
    const traces = lines.map(({ name, at, conditions }) => {
      const found = conditions.map((condition) => byCondition.get(condition));
      const end = (row, which) => Math.abs((row[`${column}_${which}`] ?? row[column]) - row[column]);
      const words = (row) => {
        const low = row[`${column}_low`] ?? null;
        return `${number(row[column])} ${unit}${low === null ? "" : ` [${number(low)}, ${number(row[`${column}_high`])}]`}`;
      };
      const { color } = looks[conditions[0]];
      return line(conditions[0], looks, {
        ...identity(conditions[0], "ladder"), name: short(name), x: at, y: found.map((row) => row[column]),
        line: { color, dash: dashOf(looks[conditions[0]]), width: 1.6 },
        error_y: { type: "data", symmetric: false, array: found.map((row) => end(row, "high")), arrayminus: found.map((row) => end(row, "low")), color, thickness: 1.2, width: 3 },
        text: found.map((row) => `${plain(row.label)}<br>${words(row)}`), hovertemplate: "%{text}<extra></extra>",
      });
    });
    const places = [...new Set(lines.flatMap(({ at }) => at))].sort((one, other) => one - other);
    const across = new Map(limits.filter(({ figure, bound }) => figure === column && bound !== null).map((each) => [each.bound, each]));
    for (const [bound, { limit, label }] of across) {
      const name = across.size > 1 ? `${limit}: ${label}` : limit;
      traces.push({
        uid: `limit-${bound}`, name: plain(name), type: "scatter", mode: "lines", x: [places[0], places[places.length - 1]], y: [bound, bound],
        line: { color: ink(element, 0.6), dash: "dot", width: 1.4 }, text: [0, 1].map(() => `${plain(name)}: ${number(bound)} ${unit}`), hovertemplate: "%{text}<extra></extra>",
      });
    }
    const log = places[0] > 0 && places[places.length - 1] / places[0] > 4;
    const scaled = log ? Math.log : Number;
    const apart = 0.04 * (scaled(places[places.length - 1]) - scaled(places[0]));
    const ticks = places.reduce((kept, place) =>  // a search has loads that lie close to each other
      (kept.length && scaled(place) - scaled(kept[kept.length - 1]) < apart ? kept : [...kept, place]), []);
    const ends = (row) => [row[column], row[`${column}_low`], row[`${column}_high`]];
    return draw(element, traces, {
      height: 360 + legendRoom(element, looks), legend: legend(element, looks), showlegend: true,
      xaxis: axis(element, along, { type: log ? "log" : "linear", tickvals: ticks, ticktext: ticks.map(String) }),
      yaxis: axis(element, yTitle, inMs ? logAxis([...rows.flatMap(ends), ...across.keys()]) : { rangemode: "tozero" }),
    });
  };

  /* A quantity (`column`) of every slot in the order in which they ran, and below it what others took of the machine's
     CPU time meanwhile. Open markers are slots that were disturbed, incomplete or run again. */
  const slots = (element, { slots: rows, column, looks, yTitle }) => {
    const size = rows.length > 400 ? 5 : 8;
    const traces = inOrder(seriesOfSlots(rows, column), looks).map((each) => pointsOverTime(each, looks, yTitle, 0.9, size));
    const began = rows.map((row) => row.began_s);
    const width = rows.map((row) => row.seconds);
    const others = { steal_share: ["the hypervisor", ""], other_cpu_share: ["other processes", "/"] };
    for (const [share, [name, shape]] of Object.entries(others)) {
      traces.push({
        uid: share, name, type: "bar", x: began, y: rows.map((row) => row[share]), width, offset: 0, yaxis: "y2",
        legendgroup: "machine", legendgrouptitle: { text: "CPU taken by" },
        marker: { color: ink(element), line: { width: 0 }, pattern: { shape, size: 4, fgcolor: ink(element), bgcolor: "rgba(0,0,0,0)" } },
        text: rows.map((row) => `${number((row[share] || 0) * 100)} % taken by ${name}<br>while ${plain(looks[row.condition].label)} ran`),
        textposition: "none", hovertemplate: "%{text}<extra></extra>",
      });
    }
    const most = Math.max(0.1, ...rows.map((row) => (row.steal_share || 0) + (row.other_cpu_share || 0)));
    return draw(element, traces, {
      height: 420 + legendRoom(element, looks, [2]), legend: legend(element, looks), showlegend: true, barmode: "stack",
      xaxis: axis(element, "seconds of the run", { anchor: "y2" }),
      yaxis: axis(element, yTitle, { domain: [0.3, 1], ...logAxis(rows.map((row) => row[column])) }),
      yaxis2: axis(element, "others' CPU", { domain: [0, 0.2], range: [0, Math.min(most * 1.08, 1)], tickformat: ".0%", nticks: 3 }),
    });
  };

  /* The parts of the mean response time as a bar a class. */
  const parts = (element, rows, looks) => {
    const conditions = rows.map((row) => row.condition);
    const places = conditions.map((_, place) => place);
    const totals = rows.map((row) => Object.keys(PARTS).reduce((sum, part) => sum + (row[part] || 0), 0));
    const outline = ink(element, 0.6);  // light parts and dark ones end where they end, on any ground
    const known = Object.entries(PARTS).filter(([column]) => rows.some((row) => row[column] !== null));
    const traces = known.map(([column, { name, color, pattern: shape, onIt }]) => ({
      uid: column, name, type: "bar", orientation: "h", y: places, x: rows.map((row) => row[column]),
      marker: {
        color, line: { width: 0.8, color: outline },
        pattern: { shape, size: 5, solidity: 0.3, fgcolor: onIt, fillmode: "overlay" },
      },
      text: rows.map((row) => `${name}: ${number(row[column])} ms`), textposition: "none",
      hovertext: rows.map((row, place) => `${name}: ${number(row[column])} ms<br>${plain(looks[row.condition].label)}: ${number(totals[place])} ms in all`),
      hovertemplate: "%{hovertext}<extra></extra>",
    }));
    return draw(element, traces, {
      height: 96 + ROW_PX * conditions.length, barmode: "stack", bargap: 0.28, showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", traceorder: "normal", font: { color: ink(element, 0.9) } },
      xaxis: axis(element, "ms of a page's mean response time", { rangemode: "tozero" }),
      yaxis: conditionAxis(element, conditions, looks),
    });
  };

  /* Response times by the share of pages that were as fast or faster; each further nine has the same width. */
  const latency = (element, rows, looks) => {
    const traces = rows.filter((row) => (row.response_curve || []).length).map((row) => line(row.condition, looks, {
      x: row.response_curve.map(([share]) => -Math.log10(1 - share)),
      y: row.response_curve.map(([, ms]) => ms),
      text: row.response_curve.map(([share, ms]) => `${number(ms)} ms or less: ${Number((share * 100).toFixed(3))} % of pages`),
      marker: { color: looks[row.condition].color, symbol: looks[row.condition].symbol, size: 8, maxdisplayed: 7 },
    }));
    const reached = Math.max(1, ...traces.flatMap((trace) => trace.x));
    return draw(element, traces, {
      height: 400 + legendRoom(element, looks), legend: legend(element, looks), showlegend: true,
      xaxis: axis(element, "share of pages", {
        tickvals: SHARES.map((share) => -Math.log10(1 - share)), ticktext: SHARES.map((share) => `${share * 100} %`),
        range: [-0.03, reached * 1.03],
      }),
      yaxis: axis(element, "response time, ms", logAxis(traces.flatMap((trace) => trace.y))),
    });
  };

  /* Ratios to the reference with their 95 % intervals. Those not shown to differ are hollow. */
  const verdicts = (element, rows, looks) => {
    const known = inOrder(rows, looks).filter((row) => row.ratio !== null);
    const conditions = known.map((row) => row.condition);
    const ends = (row) => (row.low === null ? [row.ratio, row.ratio] : [row.low, row.high]);
    const traces = known.map((row, place) => {
      const { color, symbol } = looks[row.condition];
      const [low, high] = ends(row);
      return {
        ...identity(row.condition), type: "scatter", mode: "markers", x: [row.ratio], y: [place], showlegend: false,
        marker: { color, symbol: row.shown ? symbol : `${symbol}-open`, size: 10, line: { width: 1.6, color } },
        error_x: { type: "data", symmetric: false, array: [high - row.ratio], arrayminus: [row.ratio - low], color, thickness: 1.6, width: 4 },
        text: [`${plain(looks[row.condition].label)}<br>${plain(row.sentence)}`], hovertemplate: "%{text}<extra></extra>",
      };
    });
    const figures = known.map((row) => ({
      xref: "paper", x: 1, xanchor: "left", xshift: 8, yref: "y", y: known.indexOf(row), showarrow: false, align: "left",
      text: row.low === null ? `${row.ratio.toFixed(2)}, too few rounds` : `${row.ratio.toFixed(2)} [${row.low.toFixed(2)}, ${row.high.toFixed(2)}]`,
      font: { size: 11, color: ink(element, row.shown ? 0.95 : 0.6) },
    }));
    const widest = Math.max(0, ...figures.map((figure) => figure.text.length));
    return draw(element, traces, {
      height: 70 + ROW_PX * Math.max(known.length, 1), margin: { l: 8, r: 16 + 6 * widest, t: 8, b: 8 },
      annotations: figures,
      xaxis: axis(element, `ratio to ${known.length ? short(known[0].reference) : "the reference"}`, logAxis([1, ...known.flatMap(ends)])),
      yaxis: conditionAxis(element, conditions, looks, { showgrid: true, gridcolor: ink(element, 0.07) }),
      shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: ink(element, 0.55), width: 1.2, dash: "dot" } }],
    });
  };

  /* Statements, round trips and rows a page, side by side. */
  const counts = (element, rows, looks) => {
    const conditions = rows.map((row) => row.condition);
    const columns = Object.keys(COUNTS);
    const layout = { height: 76 + ROW_PX * conditions.length, showlegend: false };
    const traces = [];
    columns.forEach((column, place) => {
      const suffix = place ? String(place + 1) : "";
      const values = rows.map((row) => row[column]);
      const above = values.filter((value) => value > 0);
      const least = Math.min(...above);
      const most = Math.max(0, ...above);
      const log = most / least > 50;
      const begin = (place * 1.04) / columns.length;
      layout[`xaxis${suffix}`] = axis(element, COUNTS[column], {
        domain: [begin, begin + 0.92 / columns.length], nticks: 4,
        ...(log ? { type: "log", range: [Math.log10(least) - 0.12, Math.log10(most) + 0.5], dtick: 1 } : { range: [0, most * 1.3 || 1] }),
      });
      rows.forEach((row, y) => {
        if (values[y] === null || (log && !values[y])) return;
        const { color, symbol } = looks[row.condition];
        traces.push({
          ...identity(row.condition, column), type: "scatter", mode: "lines+markers+text", xaxis: `x${suffix}`,
          x: [log ? null : 0, values[y]], y: [y, y], line: { color, width: 2 },  // on a logarithmic axis lengths mean nothing
          marker: { color, symbol, size: [0, 10], opacity: 1, line: { width: 0 } }, text: ["", number(values[y])], textposition: "middle right",
          hovertext: `${plain(looks[row.condition].label)}: ${number(values[y])} ${COUNTS[column]} a page`, hoverinfo: "text",
          textfont: { color: ink(element, 0.9), size: 11 },
        });
      });
    });
    layout.yaxis = conditionAxis(element, conditions, looks);
    return draw(element, traces, layout);
  };

  // Series for `overTime`

  /* `column` of each class's slots, in the middle of each. */
  const seriesOfSlots = (rows, column) => {
    const found = new Map();
    for (const row of rows) {
      if (!found.has(row.condition)) found.set(row.condition, { condition: row.condition, x: [], y: [], open: [] });
      const series = found.get(row.condition);
      series.x.push(row.began_s + row.seconds / 2);
      series.y.push(row[column]);
      series.open.push(row.disturbed || row.incomplete || row.replaced);
    }
    return [...found.values()];
  };

  /* `column` (pages_per_s or p95_ms) of each class in the middle of each window of the timeline. */
  const seriesOfTimeline = (timeline, column) => {
    const x = timeline.began_s.map((began) => began + timeline.window_s / 2);
    return Object.entries(timeline.classes).map(([condition, columns]) => ({ condition, x, y: columns[column] }));
  };

  const usersOfTimeline = (timeline) => ({ x: timeline.began_s, y: timeline.users });

  return { overTime, ladder, slots, parts, latency, verdicts, counts, seriesOfSlots, seriesOfTimeline, usersOfTimeline };
})();
