// The latent map: cases as points on a canvas, and one point that can be dragged.
{
  const CLASSES = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1",
    "#76b7b2", "#edc948", "#ff9da7", "#9c755f", "#8a8f98",
  ];
  const SCALE = ["#414487", "#2a788e", "#22a884", "#7ad151", "#f5dc3a"]; // of viridis, without its ends
  const N_SHADES = 32;
  const REACH = 10; // pixels from a case at which it counts as meant
  const GRIP = 24; // pixels from the point at which it is grasped

  // A colour of the scale, for a share from 0 to 1.
  const shade = (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
    const k = Math.min(Math.floor(at), SCALE.length - 2);
    const [a, b] = [SCALE[k], SCALE[k + 1]].map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * (at - k))).join(" ")})`;
  };

  // Colours of cases by a column: { of: index of each case into palette, palette, legend or ends }.
  // The last colour of a palette is null: that of a case whose value is not known.
  aevb.colouring = (column, n) => {
    if (!column) return { of: new Uint8Array(n), palette: [CLASSES[0], null] };
    const { values, levels } = column;
    if (levels) {
      const palette = levels.map((_, k) => {
        const round = Math.floor(k / CLASSES.length);
        return round ? `hsl(${(k * 137.5) % 360} 45% ${round % 2 ? 42 : 66}%)` : CLASSES[k % CLASSES.length];
      });
      const of = Uint16Array.from(values, (v) => (Number.isNaN(v) ? levels.length : v));
      return { of, palette: [...palette, null], legend: levels };
    }
    const known = Float64Array.from(values).filter((v) => !Number.isNaN(v)).sort();
    const [low, high] = known.length ? [0.01, 0.99].map((q) => known[Math.round(q * (known.length - 1))]) : [0, 1];
    const palette = Array.from({ length: N_SHADES }, (_, k) => shade(k / (N_SHADES - 1)));
    const index = (v) => Math.round(Math.min(Math.max((v - low) / (high - low || 1), 0), 1) * (N_SHADES - 1));
    const of = Uint16Array.from(values, (v) => (Number.isNaN(v) ? N_SHADES : index(v)));
    return { of, palette: [...palette, null], ends: [low, high], scale: SCALE };
  };

  // Round numbers between two ends, for an axis.
  const ticks = (low, high, most) => {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return found.map((value) => [value, value.toFixed(decimals).replace("-", "\u2212")]);
  };

  // Put a map into an element. `places(i)` is where case i lies; `onMove(x, y)`, `onPick(i)` and
  // `onHover(i or null, x, y)` say what the user does.
  aevb.latentMap = (element, { n, onMove, onPick, onHover }) => {
    const points = document.createElement("canvas");
    const over = document.createElement("canvas");
    element.append(points, over);
    const view = { x: 0, y: 0, scale: 100 }; // the middle, and pixels for a unit
    let [width, height, density] = [0, 0, 1];
    let places = new Float32Array(2 * n);
    let colours = aevb.colouring(null, n);
    let point = [0, 0];
    let names = ["", ""];
    let whole = { low: [-1, -1], high: [1, 1] };
    let hovered = null;
    let asked = 0; // what is to be drawn with the next frame: 1 the point, 2 all

    const toPixels = (x, y) => [width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale];
    const toUnits = (px, py) => [view.x + (px - width / 2) / view.scale, view.y - (py - height / 2) / view.scale];
    const css = (name) => getComputedStyle(element).getPropertyValue(name).trim();

    const draw = (what) => {
      if (!asked) requestAnimationFrame(() => {
        const all = asked > 1;
        asked = 0;
        if (!width) return;
        if (all) drawCases();
        drawPoint();
      });
      asked = Math.max(asked, what);
    };

    const dot = (colour, radius) => {
      const sprite = document.createElement("canvas");
      const size = Math.ceil(2 * radius * density) + 2;
      sprite.width = sprite.height = size;
      const pen = sprite.getContext("2d");
      pen.fillStyle = colour;
      pen.beginPath();
      pen.arc(size / 2, size / 2, radius * density, 0, 2 * Math.PI);
      pen.fill();
      return sprite;
    };

    const drawCases = () => {
      const pen = points.getContext("2d");
      pen.setTransform(density, 0, 0, density, 0, 0);
      pen.clearRect(0, 0, width, height);
      pen.font = "11px system-ui, sans-serif";
      pen.lineWidth = 1;
      const [ink, line] = [css("--aevb-muted"), css("--aevb-line")];
      const [[left, top], [right, bottom]] = [toUnits(0, 0), toUnits(width, height)];
      pen.fillStyle = ink;
      pen.strokeStyle = line;
      pen.textBaseline = "bottom";
      for (const [x, text] of ticks(left, right, width / 80)) {
        const [px] = toPixels(x, 0);
        pen.globalAlpha = x === 0 ? 1 : 0.5;
        pen.beginPath();
        pen.moveTo(px, 0);
        pen.lineTo(px, height);
        pen.stroke();
        pen.globalAlpha = 1;
        if (px > 34 && px < width - 24) {
          pen.textAlign = "center";
          pen.fillText(text, px, height - 3);
        }
      }
      for (const [y, text] of ticks(bottom, top, height / 80)) {
        const [, py] = toPixels(0, y);
        pen.globalAlpha = y === 0 ? 1 : 0.5;
        pen.beginPath();
        pen.moveTo(0, py);
        pen.lineTo(width, py);
        pen.stroke();
        pen.globalAlpha = 1;
        if (py > 24 && py < height - 24) {
          pen.textAlign = "left";
          pen.fillText(text, 4, py - 1);
        }
      }
      const radius = Math.min(Math.max(60 / Math.sqrt(n + 1), 1.8), 4) * Math.min(Math.max(view.scale / home().scale, 1), 2);
      const unknown = css("--aevb-unknown");
      const sprites = colours.palette.map((colour) => dot(colour ?? unknown, radius));
      const [edge, half] = [sprites[0].width, sprites[0].width / 2];
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.globalAlpha = n > 3000 ? 0.7 : 0.85;
      for (let i = 0; i < n; i++) {
        const px = (width / 2 + (places[2 * i] - view.x) * view.scale) * density - half;
        const py = (height / 2 - (places[2 * i + 1] - view.y) * view.scale) * density - half;
        if (px > -edge && py > -edge && px < points.width && py < points.height) pen.drawImage(sprites[colours.of[i]], px, py);
      }
      pen.globalAlpha = 1;
      pen.setTransform(density, 0, 0, density, 0, 0);
      pen.fillStyle = css("--aevb-ink");
      pen.font = "12px system-ui, sans-serif";
      pen.textBaseline = "alphabetic";
      label(pen, names[0], width - 8, height - 20, "right");
      label(pen, names[1], 8, 16, "left");
    };

    // Text that stays legible upon the cases.
    const label = (pen, text, x, y, side) => {
      pen.textAlign = side;
      pen.lineWidth = 3;
      pen.strokeStyle = css("--aevb-surface");
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    };

    const drawPoint = () => {
      const pen = over.getContext("2d");
      pen.setTransform(density, 0, 0, density, 0, 0);
      pen.clearRect(0, 0, width, height);
      const [ink, surface] = [css("--aevb-ink"), css("--aevb-surface")];
      if (hovered !== null) {
        const [px, py] = toPixels(places[2 * hovered], places[2 * hovered + 1]);
        pen.strokeStyle = ink;
        pen.lineWidth = 1.5;
        pen.beginPath();
        pen.arc(px, py, 6, 0, 2 * Math.PI);
        pen.stroke();
      }
      const [px, py] = toPixels(...point);
      for (const [radius, colour] of [[11, ink], [9.5, surface], [6.5, css("--aevb-accent")]]) {
        pen.fillStyle = colour;
        pen.beginPath();
        pen.arc(px, py, radius, 0, 2 * Math.PI);
        pen.fill();
      }
    };

    // The view that shows all cases.
    const home = () => {
      const [w, h] = [0, 1].map((k) => (whole.high[k] - whole.low[k]) * 1.08 || 1);
      return {
        x: (whole.low[0] + whole.high[0]) / 2,
        y: (whole.low[1] + whole.high[1]) / 2,
        scale: Math.min((width || 300) / w, (height || 300) / h),
      };
    };
    const goHome = () => {
      Object.assign(view, home());
      draw(2);
    };
    const zoom = (factor, px = width / 2, py = height / 2) => {
      const [x, y] = toUnits(px, py);
      const usual = home().scale;
      view.scale = Math.min(Math.max(view.scale * factor, usual / 8), usual * 500);
      view.x = x - (px - width / 2) / view.scale;
      view.y = y + (py - height / 2) / view.scale;
      draw(2);
    };

    const nearest = (px, py) => {
      let [best, distance] = [null, REACH ** 2];
      for (let i = 0; i < n; i++) {
        const dx = width / 2 + (places[2 * i] - view.x) * view.scale - px;
        const dy = height / 2 - (places[2 * i + 1] - view.y) * view.scale - py;
        const d = dx * dx + dy * dy;
        if (d < distance) [best, distance] = [i, d];
      }
      return best;
    };
    const hover = (i, px, py) => {
      if (i !== hovered) draw(1);
      hovered = i;
      onHover(i, px, py);
    };

    // Pointers: one drags the point or the map, two pinch.
    const pointers = new Map();
    let drag = null;
    const where = (event) => {
      const box = over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    over.addEventListener("pointerdown", (event) => {
      const [px, py] = where(event);
      over.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [px, py]);
      const [x, y] = toPixels(...point);
      drag = { start: [px, py], last: [px, py], moved: false, point: pointers.size === 1 && Math.hypot(px - x, py - y) < GRIP };
      hover(null);
    });
    over.addEventListener("pointermove", (event) => {
      const [px, py] = where(event);
      if (!pointers.has(event.pointerId)) {
        const [x, y] = toPixels(...point);
        const grips = Math.hypot(px - x, py - y) < 12;
        over.style.cursor = grips ? "grab" : "";
        hover(grips ? null : nearest(px, py), px, py);
        return;
      }
      const before = [...pointers.values()];
      pointers.set(event.pointerId, [px, py]);
      if (pointers.size === 2) {
        const after = [...pointers.values()];
        const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
        const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
        const [from, to] = [middle(before), middle(after)];
        view.x -= (to[0] - from[0]) / view.scale;
        view.y += (to[1] - from[1]) / view.scale;
        zoom(apart(after) / apart(before), ...to);
        drag.moved = true;
        return;
      }
      drag.moved ||= Math.hypot(px - drag.start[0], py - drag.start[1]) > 3;
      if (!drag.moved) return;
      if (drag.point) onMove(...toUnits(px, py));
      else {
        view.x -= (px - drag.last[0]) / view.scale;
        view.y += (py - drag.last[1]) / view.scale;
        draw(2);
      }
      drag.last = [px, py];
    });
    const release = (event) => {
      if (!pointers.delete(event.pointerId) || !drag || pointers.size) return;
      if (event.type === "pointerup" && !drag.moved && !drag.point) {
        const picked = nearest(...drag.start);
        if (picked === null) onMove(...toUnits(...drag.start));
        else onPick(picked);
      }
      drag = null;
    };
    over.addEventListener("pointerup", release);
    over.addEventListener("pointercancel", release);
    over.addEventListener("pointerleave", () => hover(null));
    over.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...where(event));
    }, { passive: false });
    element.addEventListener("keydown", (event) => {
      const step = (event.shiftKey ? 20 : 4) / view.scale;
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
      if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) {
        const to = moves[event.key].map((d, k) => point[k] + d * step);
        const [px, py] = toPixels(...to);
        if (px < 0 || py < 0 || px > width || py > height) {
          [view.x, view.y] = to;
          draw(2);
        }
        onMove(...to);
      }
      else if (event.key === "+" || event.key === "=") zoom(1.3);
      else if (event.key === "-") zoom(1 / 1.3);
      else if (event.key === "0") goHome();
      else return;
      event.preventDefault();
    });

    const resized = new ResizeObserver(() => {
      const first = !width;
      [width, height, density] = [element.clientWidth, element.clientHeight, window.devicePixelRatio || 1];
      for (const canvas of [points, over]) {
        canvas.width = Math.round(width * density);
        canvas.height = Math.round(height * density);
      }
      if (first) Object.assign(view, home());
      draw(2);
    });
    resized.observe(element);
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const repaint = () => draw(2);
    dark.addEventListener("change", repaint);

    return {
      zoom,
      goHome,
      toPixels,
      setPlaces(given, low, high, called) {
        [places, whole, names] = [given, { low, high }, called];
        goHome();
      },
      setColours(given) {
        colours = given;
        draw(2);
      },
      setPoint(x, y) {
        point = [x, y];
        draw(1);
      },
      remove() {
        resized.disconnect();
        dark.removeEventListener("change", repaint);
      },
    };
  };
}
