// The charts of the report, by Observable Plot. Colours are CSS variables: they follow light and dark.
"use strict";
(() => {
  const read = (name) => JSON.parse(document.getElementById(`${name}-data`).textContent);
  const colours = ["var(--chart-1)", "var(--chart-2)", "var(--chart-3)", "currentColor"];
  const nats = document.querySelector("main").dataset.unit;
  const small = (width) => width < 500;

  function plot(width, options) {
    return Plot.plot({
      width,
      height: Math.min(340, Math.max(220, width * 0.45)),
      marginLeft: 55,
      marginBottom: 40,
      style: { background: "transparent", overflow: "visible" },
      ...options,
    });
  }

  const draw = {
    curve({ epoch, lines, best }, width) {
      const points = Object.entries(lines).flatMap(([name, values]) =>
        values.map((value, k) => ({ name, epoch: epoch[k], value })).filter((d) => d.value !== null));
      // The first epochs rise from so far below that they would flatten all others.
      const late = points.filter((d) => d.epoch > epoch.length / 20 || epoch.length < 10);
      const domain = d3.extent(late, (d) => d.value);
      return plot(width, {
        x: { label: "epoch", tickFormat: "d", ticks: Math.min(epoch.length, small(width) ? 5 : 10) },
        y: { label: nats, grid: true, nice: true, domain },
        color: { legend: true, domain: Object.keys(lines), range: colours },
        marks: [
          Plot.ruleX([best], { stroke: "var(--chart-3)", strokeDasharray: "3 3" }),
          Plot.lineY(points, { x: "epoch", y: "value", stroke: "name", strokeWidth: 2, clip: true }),
          Plot.tip(late, Plot.pointerX({
            x: "epoch", y: "value",
            title: (d) => `${d.name}\nepoch ${d.epoch}: ${d.value.toFixed(2)} nats`,
          })),
        ],
      });
    },

    nats({ dimension, nats: values, active }, whole) {
      const width = Math.min(whole, 100 + 70 * dimension.length);
      const bars = dimension.map((j, k) => ({ j: String(j), value: values[k], active: active[k] }));
      return plot(width, {
        x: { label: "latent dimension", domain: bars.map((d) => d.j), ...(bars.length > 20 ? { ticks: [] } : {}) },
        y: { label: nats, grid: true, ticks: 5 },
        height: 220,
        marks: [
          Plot.barY(bars, {
            x: "j", y: "value", fill: (d) => (d.active ? colours[0] : colours[2]),
            title: (d) => `latent ${d.j}: ${d.value.toFixed(3)} nats`, tip: true,
            insetLeft: 2, insetRight: 2,
          }),
          Plot.ruleY([0]),
        ],
      });
    },

    bound({ edges, cases }, width) {
      const bars = cases.map((n, k) => ({ low: edges[k], high: edges[k + 1], n }));
      return plot(width, {
        height: 220,
        x: { label: "ELBO, " + nats, ticks: small(width) ? 5 : 10 },
        y: { label: "cases", grid: true },
        marks: [
          Plot.rectY(bars, { x1: "low", x2: "high", y: "n", fill: colours[0], inset: 0.5 }),
          Plot.ruleY([0]),
        ],
      });
    },

    map({ dimensions, points, rows, labels }, width) {
      const cases = points.map((z, k) => ({ z, row: rows[k], label: labels && labels[k] }));
      const title = (d) => `case ${d.row}${d.label === null ? "" : ", " + d.label}`;
      const many = labels && new Set(labels).size > 12;
      const numbers = many && labels.every((each) => each !== "" && !Number.isNaN(Number(each)));
      const fill = !labels ? colours[0] : numbers ? (d) => Number(d.label) : many ? colours[0] : "label";
      const color = { legend: Boolean(labels) && (!many || numbers), ...(numbers ? { scheme: "viridis" } : { scheme: "tableau10" }) };
      const name = (k) => `latent ${dimensions[k]}`;
      if (dimensions.length === 1) {
        return plot(width, {
          color, x: { label: name(0) }, y: { label: "cases", grid: true },
          marks: [Plot.rectY(cases, Plot.binX({ y: "count" }, { x: (d) => d.z[0], fill: many ? colours[0] : fill })), Plot.ruleY([0])],
        });
      }
      return plot(width, {
        color, height: Math.min(600, width), aspectRatio: undefined,
        x: { label: name(0) }, y: { label: name(1), grid: true },
        marks: [
          Plot.dot(cases, { x: (d) => d.z[0], y: (d) => d.z[1], fill, r: cases.length > 2000 ? 1.5 : 2.5, fillOpacity: 0.7 }),
          Plot.tip(cases, Plot.pointer({ x: (d) => d.z[0], y: (d) => d.z[1], title })),
        ],
      });
    },

    margins(columns, width) {
      const box = document.createElement("div");
      if (columns.some((each) => each.real.length)) {
        const key = document.createElement("div");
        key.className = "key";
        for (const [k, name] of ["given cases", "new cases"].entries()) {
          const item = document.createElement("span"), colour = document.createElement("i");
          colour.style.background = colours[k];
          item.append(colour, name);
          key.append(item);
        }
        box.append(key);
      }
      const grid = document.createElement("div");
      grid.className = "multiples";
      const each = Math.min(width, width / Math.max(1, Math.floor(width / 260)) - 16);
      for (const { column, type, bins, real, new: made } of columns) {
        const cell = document.createElement("div"), title = document.createElement("h4");
        title.textContent = column;
        cell.append(title, type === "category" ? levels(bins, real, made, each) : histogram(bins, type, real, made, each));
        grid.append(cell);
      }
      box.append(grid);
      return box;
    },
  };

  function histogram(bins, type, real, made, width) {
    const at = type === "date" ? (day) => new Date(day * 864e5) : (value) => value;
    const bars = bins.map(([low, high], k) => ({ low: at(low), high: at(high), real: real[k], made: made[k] }));
    const x = { x1: "low", x2: "high" };
    // New cases as an outline over given ones: where the two agree, the line runs along the bars.
    const outline = bars.flatMap((d) => [{ x: d.low, y: d.made }, { x: d.high, y: d.made }]);
    return plot(width, {
      height: 130, marginLeft: 36, marginBottom: 22, marginTop: 8,
      x: { label: null, ticks: 4 }, y: { label: null, ticks: 3, tickFormat: ".0%" },
      marks: [
        real.length ? Plot.rectY(bars, { ...x, y: "real", fill: colours[0], fillOpacity: 0.45, insetLeft: 0.5 }) : null,
        Plot.line(outline, { x: "x", y: "y", stroke: colours[1], strokeWidth: 1.5 }),
        Plot.ruleY([0]),
      ],
    });
  }

  function levels(names, real, made, width) {
    const bars = names.flatMap((name, k) => [
      ...(real.length ? [{ name, whose: "given", share: real[k] }] : []),
      { name, whose: "new", share: made[k] },
    ]);
    return plot(width, {
      height: 40 + 26 * names.length, marginLeft: 90, marginBottom: 25, marginTop: 8, marginRight: 20,
      x: { label: null, ticks: 3, tickFormat: ".0%" },
      y: { axis: null, domain: real.length ? ["given", "new"] : ["new"], padding: 0 },
      fy: { label: null, domain: names, tickFormat: (name) => (name.length > 13 ? name.slice(0, 12) + "…" : name), axis: "left", padding: 0.2 },
      marks: [
        Plot.barX(bars, { fy: "name", y: "whose", x: "share", fill: (d) => colours[d.whose === "given" ? 0 : 1], fillOpacity: 0.8 }),
        Plot.ruleX([0]),
      ],
    });
  }

  for (const place of document.querySelectorAll("[data-chart]")) {
    const name = place.dataset.chart, values = read(name);
    let width = 0;
    const render = () => {
      const now = Math.floor(place.clientWidth);
      if (now > 0 && now !== width) {
        width = now;
        place.replaceChildren(draw[name](values, width));
      }
    };
    render();
    new ResizeObserver(render).observe(place);
  }

  // The latent space with the decoder at hand, where the model can be run in a page.
  const place = document.getElementById("explorer");
  if (place) aevb.mountExplorer(place, read("explorer"));
})();
