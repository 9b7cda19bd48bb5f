// The explorer: the map, the decoded case, sliders for further latents, and a case of one's own.
// aevb.mountExplorer(element, payload, { onMove }) puts it into an element. Names of columns and
// labels are data: they only ever become text.
{
  const MOST_ROWS = 200; // of a table on the screen, and fields of a form
  const MOST_HOVERED = 8; // columns of a case beside the pointer
  const MOST_BARS = 6; // levels of a column
  const MOST_CLASSES = 40; // in the legend

  // make("div.name", { attributes }, children): an element.
  const make = (what, attributes = {}, ...children) => {
    const [tag, ...classes] = what.split(".");
    const element = document.createElement(tag);
    if (classes.length) element.className = classes.map((name) => `aevb-${name}`).join(" ");
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };
  let serial = 0;
  const labelled = (text, control) => {
    control.id ||= `aevb-${++serial}`;
    return [make("label", { for: control.id }, text), control];
  };
  const pair = (...children) => make("span.pair", {}, ...children);
  const floats = (text) => new Float32Array(aevb.bytes(text));

  const plain = (value) => {
    if (!Number.isFinite(value)) return "\u2013";
    const size = Math.abs(value);
    const text = size && (size < 1e-3 || size >= 1e7) ? value.toExponential(2) : String(+value.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size || 1)))));
    return text.replace("-", "\u2212");
  };
  const DAY = 864e5; // milliseconds
  const dated = (days, whole) => {
    const moment = new Date((whole ? Math.round(days) : days) * DAY);
    return Number.isNaN(moment.getTime()) ? plain(days) : moment.toISOString().slice(0, whole ? 10 : 16).replace("T", " ");
  };
  const cell = (column, value) => {
    if (value === null || Number.isNaN(value)) return "missing";
    if (column.levels) return column.levels[value] ?? "missing";
    if (column.kind === "boolean") return { 0: "false", 1: "true" }[value] ?? `${(100 * value).toFixed(1)} % true`;
    if (column.kind === "date") return dated(value, column.whole);
    if (column.kind === "duration") return `${plain(value)} days`;
    return plain(value);
  };

  // Columns with the values of the cases in their own units, and where these lie.
  const readColumn = (column) => {
    const values = column.values && floats(column.values);
    if (!values) return column;
    const origin = column.origin ?? 0;
    const own = origin ? Float64Array.from(values, (v) => v + origin) : values;
    let [low, high] = [Infinity, -Infinity];
    for (const v of own) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
    return { ...column, values: own, low, high };
  };

  // A picture of numbers on a canvas of as many pixels.
  const paint = (canvas, values, { shape: [height, width, channels], low, high }) => {
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(width, height);
    const factor = 255 / (high - low || 1);
    for (let i = 0, at = 0; i < width * height; i++) {
      for (let k = 0; k < 3; k++) image.data[at++] = (values[i * channels + (channels === 3 ? k : 0)] - low) * factor;
      image.data[at++] = 255;
    }
    pen.putImageData(image, 0, 0);
  };
  const pictureCanvas = ({ shape: [height, width] }, about) =>
    make("canvas.picture", { width, height, role: "img", "aria-label": about });

  // What is shown of a decoded case: a picture.
  const decodedPicture = (picture) => {
    const canvas = pictureCanvas(picture, "The decoded case");
    return { element: canvas, show: (outputs) => paint(canvas, outputs[0], picture) };
  };

  // What is shown of a decoded case: a row, as a table of columns.
  const decodedRow = (columns, value, laws) => {
    const body = make("tbody");
    const rows = columns.slice(0, MOST_ROWS).map((column) => {
      const shown = make("td.value");
      const bars = make("td.bars");
      body.append(make("tr", {}, make("th", { scope: "row" }, column.name), shown, bars));
      if (column.levels && column.laws !== undefined) {
        const each = column.levels.map((level) => {
          const bar = make("i");
          const line = make("span.level", {}, make("span.share", {}, bar), make("span", {}, level));
          return { bar, line };
        });
        return (outputs) => {
          const law = laws(outputs, column);
          shown.textContent = cell(column, value(outputs, column));
          const most = [...law.keys()].sort((a, b) => law[b] - law[a]).slice(0, MOST_BARS);
          for (const [k, { bar, line }] of each.entries()) {
            bar.style.width = `${100 * law[k]}%`;
            line.title = `${(100 * law[k]).toFixed(1)} %`;
            const there = each.length <= MOST_BARS || most.includes(k);
            if (there !== line.isConnected) there ? bars.append(line) : line.remove();
          }
        };
      }
      const mark = make("i");
      if (column.high > column.low) bars.append(make("span.range", { title: `${cell(column, column.low)} to ${cell(column, column.high)}` }, mark));
      return (outputs) => {
        const own = value(outputs, column);
        shown.textContent = cell(column, own);
        mark.style.left = `${100 * Math.min(Math.max((own - column.low) / (column.high - column.low), 0), 1)}%`;
      };
    });
    const head = make("thead", {}, make("tr", {}, ...["Column", "Expected", "Among the cases"].map((text) => make("th", { scope: "col" }, text))));
    const element = make("div.scroll", { tabindex: 0, role: "region", "aria-label": "The decoded case" }, make("table", {}, head, body));
    if (columns.length > MOST_ROWS) element.append(make("p.note", {}, `${columns.length - MOST_ROWS} more columns are not shown.`));
    return { element, show: (outputs) => rows.forEach((row) => row(outputs)) };
  };

  // A picture of one's own: drawn with pointer or keys.
  const ownPicture = (picture, onChange) => {
    const { shape: [height, width, channels], low, high } = picture;
    const values = new Float32Array(width * height * channels).fill(low);
    const canvas = pictureCanvas(picture, "Your own case. Arrow keys move the pen, the space bar draws.");
    canvas.tabIndex = 0;
    canvas.classList.add("aevb-drawing");
    const ink = make("input", { type: "color", value: "#ffffff" });
    const erase = make("input", { type: "checkbox" });
    const radius = Math.max(1, Math.min(width, height) / 22);
    const pen = [width / 2, height / 2];
    const changed = () => {
      paint(canvas, values, picture);
      onChange([values]);
    };
    const stroke = (x, y) => {
      const colour = [1, 3, 5].map((i) => parseInt(ink.value.slice(i, i + 2), 16) / 255);
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const cover = Math.min(Math.max(radius + 0.5 - Math.hypot(column + 0.5 - x, row + 0.5 - y), 0), 1);
          for (let k = 0; cover > 0 && k < channels; k++) {
            const at = (row * width + column) * channels + k;
            const goal = erase.checked ? low : low + (high - low) * (channels === 3 ? colour[k] : 1);
            const next = values[at] + cover * (goal - values[at]);
            values[at] = channels === 3 || erase.checked ? next : Math.max(values[at], low + cover * (high - low));
          }
        }
      }
    };
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    };
    const line = (to) => {
      const steps = Math.ceil(Math.hypot(to[0] - pen[0], to[1] - pen[1]) * 2) || 1;
      const from = [...pen];
      for (let s = 1; s <= steps; s++) stroke(...[0, 1].map((k) => from[k] + ((to[k] - from[k]) * s) / steps));
      [pen[0], pen[1]] = to;
      changed();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      [pen[0], pen[1]] = at(event);
      line(pen);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) line(at(event));
    });
    let drawing = false;
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key === " ") drawing = !drawing;
      else if (!moves[event.key]) return;
      event.preventDefault();
      const to = pen.map((x, k) => Math.min(Math.max(x + (moves[event.key]?.[k] ?? 0), 0), [width, height][k]));
      if (drawing) line(to);
      else {
        [pen[0], pen[1]] = to;
        paint(canvas, values, picture);
        const mark = canvas.getContext("2d");
        mark.fillStyle = "#4e79a7";
        mark.fillRect(Math.floor(to[0]), Math.floor(to[1]), 1, 1);
      }
    });
    paint(canvas, values, picture);
    const tools = channels === 3 ? [pair(...labelled("Colour", ink))] : [];
    return {
      element: make("div.own", {}, canvas, make("div.tools", {}, ...tools, pair(...labelled("Erase", erase).reverse()))),
      clear() {
        values.fill(low);
        changed();
      },
      take([decoded]) {
        values.set(decoded);
        changed();
      },
    };
  };

  // Values of columns as a program takes them, one part after another; whether each is there.
  const filled = (columns, parts, valueOf) => {
    const values = parts.map(({ size, filler }) => new Float32Array(size).fill(filler));
    const observed = parts.map(({ size }) => new Float32Array(size));
    const empty = [];
    for (const column of columns) {
      const own = valueOf(column);
      if (own === null) {
        empty.push(column.name);
        continue;
      }
      values[column.part][column.place] = own - (column.levels ? 0 : column.origin ?? 0);
      observed[column.part][column.place] = 1;
    }
    return { values, observed, empty };
  };

  // A form with a field for each column that the model uses.
  const formOf = (all, parts, onInput, isRequired = false) => {
    const columns = all.filter((column) => column.part !== undefined);
    const fields = new Map(columns.map((column) => {
      const levels = column.levels ?? (column.kind === "boolean" ? ["false", "true"] : null);
      if (!levels) return [column, make("input", { type: column.kind === "date" ? (column.whole ? "date" : "datetime-local") : "number", step: "any" })];
      const options = levels.map((level, k) => make("option", { value: k }, level));
      return [column, make("select", {}, ...(isRequired ? [] : [make("option", { value: "" }, "\u2013")]), ...options)];
    }));
    const read = (column) => {
      const text = fields.get(column).value;
      if (text === "") return null;
      const number = column.kind === "date" ? Date.parse(text + (column.whole ? "" : "Z")) / DAY : Number(text);
      return Number.isNaN(number) || (column.positive && number <= 0) ? null : number;
    };
    const element = make("form.form", { onsubmit: (event) => event.preventDefault(), oninput: onInput });
    for (const [column, field] of fields) element.append(make("div.field", {}, ...labelled(column.name, field)));
    return {
      element,
      columns,
      read: () => filled(columns, parts, read),
      write(valueOf) {
        for (const [column, field] of fields) {
          const own = valueOf(column);
          const iso = (days) => dated(days, column.whole).replace(" ", "T");
          const origin = column.origin ?? 0;
          const rounded = () => +(origin + +(own - origin).toPrecision(7)).toPrecision(14); // as exact as float32
          field.value = field.options ? Math.round(own) : column.kind === "date" ? iso(own) : rounded();
        }
      },
    };
  };

  const stillEmpty = (names) => `Still to fill in: ${names.slice(0, 3).join(", ")}${names.length > 3 ? " and more" : ""}.`;

  // A row of one's own.
  const ownRow = (columns, { parts, holes, value, say }, onChange) => {
    const changed = () => {
      const { values, observed, empty } = form.read();
      if (empty.length === form.columns.length) return say("Fill the form, or copy the decoded case.");
      if (empty.length && !holes) return say(stillEmpty(empty));
      onChange(holes ? [...values, ...observed] : values);
    };
    const form = formOf(columns, parts, changed);
    return {
      element: make("div.scroll", {}, form.element),
      clear() {
        form.element.reset();
        changed();
      },
      take(outputs) {
        form.write((column) => value(outputs, column));
        changed();
      },
    };
  };

  // What the model is told besides the latent point, condition and exposure: a form that has values
  // from the start, and takes those of a case.
  const givenOf = ({ columns: described, parts, totalled }, onChange) => {
    const columns = described.map(readColumn);
    const note = make("p.note", { role: "status" });
    const changed = () => {
      const found = form.read();
      note.textContent = found.empty.length ? stillEmpty(found.empty) : "";
      if (found.empty.length) return;
      values = found.values;
      onChange();
    };
    const form = formOf(columns, parts, changed, true);
    const areKnown = form.columns.every((column) => column.values);
    const ofCase = (i) => (areKnown ? filled(form.columns, parts, (column) => column.values[i]).values : values);
    let { values } = filled(form.columns, parts, (column) => column.start);
    form.write((column) => column.start);
    const write = (valueOf) => {
      form.write(valueOf);
      note.textContent = "";
    };
    return {
      elements: [make("div.scroll", {}, form.element), note],
      columns,
      values: () => values,
      ofCase,
      take(i) {
        values = ofCase(i);
        if (areKnown) write((column) => column.values[i]);
      },
      // The exposure may be the total of a case's counts, whose parts these are; it is the last value.
      takeTotal(inputs) {
        if (!totalled) return;
        const total = totalled.reduce((sum, part) => inputs[part].reduce((x, y) => x + y, sum), 0);
        values = [...values.slice(0, -1), Float32Array.of(total)];
        write((column) => values[column.part][column.place] + (column.levels ? 0 : column.origin ?? 0));
      },
    };
  };
  const NOTHING = { columns: [], elements: [], values: () => [], ofCase: () => [], take() {}, takeTotal() {} };

  aevb.mountExplorer = (element, payload, { onMove = () => {} } = {}) => {
    const { latent, picture, cases, holes, parts } = payload;
    const { n } = cases;
    const dim = latent.start.length;
    const decode = aevb.compile(payload.decode);
    const encode = payload.encode && aevb.compile(payload.encode);
    const columns = payload.columns?.map(readColumn);
    const codes = floats(cases.codes);
    const label = cases.label && readColumn(cases.label);
    const z = Float32Array.from(latent.start);
    const axes = dim > 1 ? latent.order.slice(0, 2).sort((a, b) => a - b) : [0, 0];
    let outputs = null;
    const given = payload.given ? givenOf(payload.given, () => moveTo(z)) : NOTHING;

    // The value of a column in a decoded case, in its own units, and the probabilities of its levels.
    const value = (found, column) =>
      column.part === undefined ? column.value ?? NaN : found[column.part][column.place] + (column.levels ? 0 : column.origin ?? 0);
    const laws = (found, column) => found[column.laws].subarray(column.place * column.width, column.place * column.width + column.levels.length);

    // What stands beside the pointer.
    const beside = [label, ...given.columns].filter((column) => column?.values);
    const sheet = picture?.sheet && Object.assign(new Image(), { src: `data:image/png;base64,${picture.sheet}` });
    const tip = make("div.tip", { hidden: true });
    const thumb = picture && pictureCanvas(picture, "");
    const about = make("div");
    tip.append(...(thumb ? [thumb] : []), about);
    const lines = (i) => {
      const known = (columns ?? []).filter((column) => column.values);
      const told = [...beside, ...known];
      const shown = told.slice(0, MOST_HOVERED).map((column) => [column.name, cell(column, column.values[i])]);
      return told.length > MOST_HOVERED ? [...shown, ["\u2026", `${told.length - MOST_HOVERED} more`]] : shown;
    };
    const showThumb = (i) => {
      const [height, width] = picture.shape;
      if (sheet && i % picture.every === 0) {
        const at = i / picture.every, wide = sheet.width / width;
        thumb.getContext("2d").drawImage(sheet, (at % wide) * width, Math.floor(at / wide) * height, width, height, 0, 0, width, height);
        return false;
      }
      paint(thumb, decode(codes.subarray(i * dim, (i + 1) * dim), ...given.ofCase(i))[0], picture);
      outputs = null; // the program's memory has another case now
      return true;
    };
    const onHover = (i, px, py) => {
      tip.hidden = i === null;
      if (i === null) return;
      const isDecoded = picture ? showThumb(i) : false;
      const rows = lines(i).map(([name, text]) => make("div", {}, make("span", {}, `${name} `), make("b", {}, text)));
      about.replaceChildren(...rows, ...(isDecoded ? [make("div", {}, make("span", {}, "as decoded"))] : []));
      const left = px > box.clientWidth / 2;
      Object.assign(tip.style, { left: left ? "auto" : `${px + 14}px`, right: left ? `${box.clientWidth - px + 14}px` : "auto", top: `${Math.min(py + 10, box.clientHeight - tip.offsetHeight - 4)}px` });
    };

    // The map.
    const keys = "Arrow keys move the point, plus and minus zoom, 0 shows all cases.";
    const box = make("div.map", { tabindex: 0, role: "application", "aria-label": `Latent map. ${keys}` });
    const placed = (x, y) => {
      const next = Float32Array.from(z);
      next[axes[0]] = x;
      if (dim > 1) next[axes[1]] = y;
      return next;
    };
    const map = aevb.latentMap(box, {
      n,
      onMove: (x, y) => moveTo(placed(x, y)),
      onPick: (i) => {
        given.take(i);
        moveTo(codes.subarray(i * dim, (i + 1) * dim));
      },
      onHover,
    });
    box.append(tip);
    const called = (j) => `z${subscript(j)}${latent.nats ? ` (${latent.nats[j].toFixed(2)} nats)` : ""}`;
    const subscript = (j) => String(j).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);
    const placeCases = () => {
      const places = new Float32Array(2 * n);
      for (let i = 0; i < n; i++) {
        places[2 * i] = codes[i * dim + axes[0]];
        // One latent is spread over the height, so that its cases do not hide one another.
        places[2 * i + 1] = dim > 1 ? codes[i * dim + axes[1]] : ((i * 0.618034) % 1) - 0.5;
      }
      const ends = ["low", "high"].map((end) => axes.map((j, k) => (dim > 1 || !k ? latent[end][j] : end === "low" ? -1 : 1)));
      map.setPlaces(places, ...ends, [called(axes[0]), dim > 1 ? called(axes[1]) : ""]);
    };

    // Colours and their legend.
    const legend = make("div.legend", { "aria-label": "Legend" });
    const coloured = [...beside, ...(columns ?? []).filter((column) => column.values)];
    const colourBy = make("select", { onchange: () => paintCases() }, make("option", { value: "" }, "nothing"), ...coloured.map((column, k) => make("option", { value: k }, column.name)));
    if (coloured.length && label) colourBy.value = "0";
    const paintCases = () => {
      const column = colourBy.value === "" ? null : coloured[colourBy.value];
      const colours = aevb.colouring(column, n);
      map.setColours(colours);
      legend.replaceChildren();
      const entry = (colour, text) => {
        const swatch = make("i");
        swatch.style.background = colour ?? "var(--aevb-unknown)";
        legend.append(make("span", {}, swatch, text));
      };
      const levels = colours.legend ?? [];
      levels.slice(0, MOST_CLASSES).forEach((level, k) => entry(colours.palette[k], level));
      if (levels.length > MOST_CLASSES) legend.append(`\u2026 and ${levels.length - MOST_CLASSES} more`);
      if (colours.ends) {
        const bar = make("i.ramp");
        bar.style.background = `linear-gradient(90deg, ${colours.scale.join(", ")})`;
        legend.append(make("span", {}, cell(column, colours.ends[0]), bar, cell(column, colours.ends[1])));
      }
      if (column && colours.of.includes(colours.palette.length - 1)) entry(null, "missing");
    };

    // Sliders: of all latents but the two of the map.
    const sliders = make("div.sliders");
    const slider = (j) => {
      const [low, high] = [latent.low[j], latent.high[j]];
      const input = make("input", { type: "range", min: low, max: high, step: (high - low) / 200, oninput: () => moveTo(Float32Array.from(z, (x, k) => (k === j ? input.valueAsNumber : x))) });
      const shown = make("output");
      return { j, line: make("div.slider", {}, ...labelled(called(j), input), shown), set: (x) => { input.value = x; shown.textContent = plain(x); } };
    };
    let slid = [];
    const placeSliders = () => {
      slid = latent.order.filter((j) => !axes.includes(j)).map(slider);
      sliders.replaceChildren(...slid.map(({ line }) => line));
    };
    const axis = (k) => {
      const choice = make("select", { onchange: () => {
        const j = Number(choice.value);
        if (axes[1 - k] === j) axes[1 - k] = axes[k];
        axes[k] = j;
        arrange();
      } }, ...latent.order.map((j) => make("option", { value: j }, called(j))));
      return choice;
    };
    const choices = dim > 2 ? [axis(0), axis(1)] : [];
    const arrange = () => {
      choices.forEach((choice, k) => (choice.value = axes[k]));
      placeSliders();
      placeCases();
      show();
    };

    // The decoded case, and one's own.
    const decoded = picture ? decodedPicture(picture) : decodedRow(columns, value, laws);
    const where = make("p.where");
    const status = make("p.note", { role: "status" });
    const say = (text) => (status.textContent = text);
    const take = (inputs) => {
      given.takeTotal(inputs);
      const found = encode(...inputs, ...given.values())[0];
      if (!found.every(Number.isFinite)) return say("The model has no code for these values.");
      say("The point is where the model puts this case.");
      moveTo(found);
    };
    const own = encode && (picture || columns.length <= MOST_ROWS) && (picture ? ownPicture(picture, (inputs) => take(asInputs(inputs))) : ownRow(columns, { parts, holes, value, say }, take));
    const asInputs = ([values]) => (holes ? [values, new Float32Array(values.length).fill(1)] : [values]);

    // Every move ends here; the screen is brought up to date once a frame.
    let asked = false;
    const moveTo = (point) => {
      z.set(point);
      if (!asked) requestAnimationFrame(() => {
        asked = false;
        show();
        onMove(z);
      });
      asked = true;
    };
    const current = () => decode(z, ...given.values());
    const show = () => {
      outputs = current();
      decoded.show(outputs);
      map.setPoint(z[axes[0]], dim > 1 ? z[axes[1]] : 0);
      for (const { j, set } of slid) set(z[j]);
      where.textContent = `z = (${[...z.slice(0, 8)].map((x) => x.toFixed(2).replace("-", "\u2212")).join(", ")}${dim > 8 ? ", \u2026" : ""})`;
    };

    const button = (text, about, onclick) => make("button", { type: "button", title: about, "aria-label": about, onclick }, text);
    const section = (name, title, ...children) => make(`section.${name}`, { "aria-label": title }, make("h2", {}, title), ...children);
    const controls = make("div.tools", {},
      ...(coloured.length ? [pair(...labelled("Colour by", colourBy))] : []),
      ...choices.map((choice, k) => pair(...labelled(["Across", "Up"][k], choice))),
      make("span.zoom", {}, button("\u2212", "Zoom out", () => map.zoom(1 / 1.4)), button("+", "Zoom in", () => map.zoom(1.4)), button("All", "Show all cases", () => map.goHome())),
    );
    const hint = make("p.note", {}, n ? `${n.toLocaleString("en")} cases. Drag the point, or click a case.` : "Drag the point.");
    const root = make("div.explorer", {},
      section("space", "Latent map", controls, box, legend, hint),
      make(picture ? "div.side.pictures" : "div.side", {},
        ...(given.elements.length ? [section("given", "Given", ...given.elements)] : []),
        section("decoded", "Decoded case", decoded.element, where),
        ...(dim > 2 ? [section("latents", "Further latents", sliders)] : []),
        ...(own ? [section("yours", "Your own case", own.element, make("div.tools", {}, button("Clear", "Clear your own case", () => own.clear()), button("Copy decoded", "Copy decoded case", () => own.take((outputs ?? current()).map((each) => each.slice())))), status)] : []),
      ),
    );
    element.replaceChildren(root);
    paintCases();
    arrange();

    return (root.explorer = {
      moveTo,
      show,
      point: () => [...z],
      decoded: () => current().map((each) => [...each]),
      toPixels: map.toPixels,
      remove() {
        map.remove();
        root.remove();
      },
    });
  };
}
