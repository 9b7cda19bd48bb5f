// Runs the programs that programs.py writes: aevb.compile(program) is a function from input arrays
// to output arrays. All memory is taken once, so that a frame leaves nothing to be collected.
{
  globalThis.aevb ??= {};

  const ARRAYS = {
    bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
    uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
  };

  const bytes = (text) => {
    const read = atob(text);
    const found = new Uint8Array(read.length);
    for (let i = 0; i < read.length; i++) found[i] = read.charCodeAt(i);
    return found.buffer;
  };

  // A constant: one number stands for many of the same. Large weights are whole numbers of two or
  // three bytes, and each row has a step.
  const constant = ({ dtype, size, data, steps }) => {
    if (steps) {
      const each = new Uint8Array(bytes(data));
      const scale = new Float64Array(bytes(steps));
      const [width, n] = [size / scale.length, each.length / size];
      const found = new Float32Array(size);
      for (let i = 0, at = 0; i < size; i++) {
        let code = 0;
        for (let k = 0; k < n; k++) code |= each[at++] << (8 * (k + 4 - n)); // the sign is in front
        found[i] = (code >> (32 - 8 * n)) * scale[Math.floor(i / width)];
      }
      return found;
    }
    const values = new ARRAYS[dtype](bytes(data));
    return values.length === size ? values : new ARRAYS[dtype](size).fill(values[0]);
  };

  // erf by a series of positive terms; erfc, where that would cancel, by a continued fraction.
  const erf = (x) => {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  };
  const erfc = (x) => {
    if (!(x > 2)) return 1 - erf(x);
    let f = x;
    for (let n = 60; n > 0; n--) f = x + n / 2 / f;
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / f;
  };

  const ONE = {
    abs: Math.abs, acos: Math.acos, acosh: Math.acosh, asin: Math.asin, asinh: Math.asinh,
    atan: Math.atan, atanh: Math.atanh, cbrt: Math.cbrt, ceil: Math.ceil, cos: Math.cos,
    cosh: Math.cosh, exp: Math.exp, expm1: Math.expm1, floor: Math.floor, log: Math.log,
    log1p: Math.log1p, sign: Math.sign, sin: Math.sin, sinh: Math.sinh, sqrt: Math.sqrt,
    tan: Math.tan, tanh: Math.tanh, is_finite: Number.isFinite, erf, erfc,
    exp2: (x) => 2 ** x,
    logistic: (x) => 1 / (1 + Math.exp(-x)),
    neg: (x) => -x,
    rsqrt: (x) => 1 / Math.sqrt(x),
    square: (x) => x * x,
  };
  const TWO = {
    add: (a, b) => a + b, add_any: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b,
    div: (a, b) => a / b, rem: (a, b) => a % b, pow: Math.pow, atan2: Math.atan2,
    max: Math.max, min: Math.min,
    eq: (a, b) => a === b, ne: (a, b) => a !== b, lt: (a, b) => a < b, le: (a, b) => a <= b,
    gt: (a, b) => a > b, ge: (a, b) => a >= b,
    and: (a, b) => a & b, or: (a, b) => a | b, xor: (a, b) => a ^ b,
    shift_left: (a, b) => (b < 32 ? a << b : 0),
    shift_right_arithmetic: (a, b) => a >> Math.min(b, 31),
    shift_right_logical: (a, b) => (b < 32 ? a >>> b : 0),
  };
  const toEven = (x) => {
    const up = Math.floor(x + 0.5);
    return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up;
  };
  const awayFromZero = (x) => Math.sign(x) * Math.floor(Math.abs(x) + 0.5);

  const step = (array) => (array.length === 1 ? 0 : 1); // a single number goes with all of an array
  const unary = (f) => ([a], to) => () => {
    for (let i = 0; i < to.length; i++) to[i] = f(a[i]);
  };
  const binary = (f) => ([a, b], to) => {
    const p = step(a), q = step(b);
    return () => {
      for (let i = 0; i < to.length; i++) to[i] = f(a[i * p], b[i * q]);
    };
  };

  const reduction = (start, f) => ([a], to, { inner }) => () => {
    for (let i = 0, at = 0; i < to.length; i++) {
      let total = start;
      for (let j = 0; j < inner; j++, at++) total = f(total, a[at]);
      to[i] = total;
    }
  };
  const accumulation = (f) => ([a], to, { inner }) => () => {
    for (let at = 0; at < to.length; at++) to[at] = at % inner ? f(to[at - 1], a[at]) : a[at];
  };
  const best = (better) => ([a], to, { inner }) => () => {
    for (let i = 0; i < to.length; i++) {
      const row = a.subarray(i * inner, (i + 1) * inner);
      let at = 0;
      for (let j = 1; j < inner; j++) if (better(row[j], row[at])) at = j;
      to[i] = at;
    }
  };

  // Each makes, of operands, a place for the result and settings, a function that fills the place.
  const OPERATIONS = {
    ...Object.fromEntries(Object.entries(ONE).map(([name, f]) => [name, unary(f)])),
    ...Object.fromEntries(Object.entries(TWO).map(([name, f]) => [name, binary(f)])),

    mul: (of, to) => binary(to instanceof Int32Array || to instanceof Uint32Array ? Math.imul : TWO.mul)(of, to),
    integer_pow: (of, to, { y }) => unary((x) => x ** y)(of, to),
    round: (of, to, { rounding_method }) => unary(rounding_method ? toEven : awayFromZero)(of, to),
    not: (of, to, { dtype }) => unary(dtype === "bool" ? (x) => 1 - x : (x) => ~x)(of, to),
    convert_element_type: (of, to, { dtype }) => unary(dtype === "bool" ? (x) => x !== 0 : (x) => x)(of, to),
    bitcast_convert_type: ([a], to) => {
      const seen = new to.constructor(a.buffer, a.byteOffset, to.length);
      return () => to.set(seen);
    },
    clamp: ([low, x, high], to) => {
      const p = step(low), q = step(high);
      return () => {
        for (let i = 0; i < to.length; i++) to[i] = Math.min(Math.max(x[i], low[i * p]), high[i * q]);
      };
    },
    select_n: ([which, ...cases], to) => {
      const p = step(which), steps = cases.map(step);
      return () => {
        for (let i = 0; i < to.length; i++) {
          const k = which[i * p];
          to[i] = cases[k][i * steps[k]];
        }
      };
    },

    take: (of, to, { runs }) => {
      const places = new Int32Array(to.length);
      for (let r = 0, at = 0; r < runs.length; r += 3) {
        for (let j = 0; j < runs[r + 2]; j++) places[at++] = runs[r] + j * runs[r + 1];
      }
      const fill = (from) => {
        for (let i = 0; i < to.length; i++) to[i] = from[places[i]];
      };
      if (of.length === 1) return () => fill(of[0]);
      const joined = new to.constructor(of.reduce((n, each) => n + each.length, 0));
      return () => {
        let at = 0;
        for (const each of of) {
          joined.set(each, at);
          at += each.length;
        }
        fill(joined);
      };
    },

    dot_general: ([a, b], to, { batch, rows, inner, columns }) => {
      const sums = new Float64Array(columns);
      return () => {
        for (let g = 0, at = 0; g < batch; g++) {
          const start = g * inner * columns;
          for (let m = 0; m < rows; m++, at += inner) {
            sums.fill(0);
            if (columns === 1) {
              let sum = 0;
              for (let k = 0; k < inner; k++) sum += a[at + k] * b[start + k];
              sums[0] = sum;
            } else {
              for (let k = 0; k < inner; k++) {
                const x = a[at + k], from = start + k * columns;
                for (let n = 0; n < columns; n++) sums[n] += x * b[from + n];
              }
            }
            to.set(sums, (g * rows + m) * columns);
          }
        }
      };
    },

    reduce_sum: reduction(0, (x, y) => x + y),
    reduce_prod: reduction(1, (x, y) => x * y),
    reduce_max: reduction(-Infinity, Math.max),
    reduce_min: reduction(Infinity, Math.min),
    reduce_and: reduction(-1, (x, y) => x & y),
    reduce_or: reduction(0, (x, y) => x | y),
    argmax: best((x, y) => x > y),
    argmin: best((x, y) => x < y),
    cumsum: accumulation((x, y) => x + y),
    cumprod: accumulation((x, y) => x * y),
    cummax: accumulation(Math.max),
    cummin: accumulation(Math.min),
  };
  aevb.operations = Object.keys(OPERATIONS);

  aevb.compile = ({ inputs, constants, operations, outputs }) => {
    const values = inputs.map(({ dtype, size }) => new ARRAYS[dtype](size));
    values.push(...constants.map(constant));
    const steps = operations.map((operation) => {
      const to = new ARRAYS[operation.dtype](operation.size);
      const run = OPERATIONS[operation.name](operation.of.map((at) => values[at]), to, operation);
      values.push(to);
      return run;
    });
    return (...given) => {
      given.forEach((array, i) => values[i].set(array));
      for (const run of steps) run();
      return outputs.map(({ at }) => values[at]);
    };
  };

  aevb.bytes = bytes;
}
