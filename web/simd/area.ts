// Averages areas of RGBA images with SIMD instructions: the same numbers as resize.js, several times as fast.
//
// AssemblyScript. `npm run build` compiles it to page/area.wasm. All arguments but sizes are addresses in the module's memory.
// f32x4 instructions round after each multiplication and addition, as Math.fround does in resize.js.

/** The four bytes at an address as 32-bit integers. */
function pixel(address: usize): v128 {
  return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(address)));
}

/** Store four floating-point numbers 0..255 as bytes, halves rounded to even. */
function storeBytes(address: usize, values: v128): void {
  const integers = i32x4.trunc_sat_f32x4_s(f32x4.nearest(values));
  const words = i16x8.narrow_i32x4_s(integers, integers);
  v128.store32_lane(address, i8x16.narrow_i16x8_u(words, words), 0);
}

/** Average the areas of one row into `line`, four floating-point numbers per pixel of the result. */
function averageLine(row: usize, first: usize, source: usize, weight: usize, width: i32, line: usize): void {
  let entry = 0;
  for (let x = 0; x < width; x++) {
    const end = load<i32>(first + ((x + 1) << 2));
    let from = row + (load<i32>(source + (entry << 2)) << 2);
    let sum = f32x4.splat(0);
    for (; entry < end; entry++, from += 4) {
      const share = v128.load32_splat(weight + (entry << 2));
      sum = f32x4.add(sum, f32x4.mul(f32x4.convert_i32x4_s(pixel(from)), share));
    }
    v128.store(line + (x << 4), sum);
  }
}

/** Average areas whose edges are inside pixels. The tables are those of areaTable() in resize.js. */
export function averageWeighted(
  image: usize,
  stride: i32,
  columnFirst: usize,
  columnSource: usize,
  columnWeight: usize,
  rowFirst: usize,
  rowSource: usize,
  rowWeight: usize,
  width: i32,
  height: i32,
  line: usize,
  sums: usize,
  result: usize,
): void {
  let lineOf = -1;
  let entry = 0;
  for (let y = 0; y < height; y++) {
    memory.fill(sums, 0, width << 4);
    for (const end = load<i32>(rowFirst + ((y + 1) << 2)); entry < end; entry++) {
      const row = load<i32>(rowSource + (entry << 2));
      // Two results share the pixels at their edge.
      if (row !== lineOf) averageLine(image + row * stride, columnFirst, columnSource, columnWeight, width, line);
      lineOf = row;
      const share = v128.load32_splat(rowWeight + (entry << 2));
      for (let at = 0; at < width << 4; at += 16) {
        v128.store(sums + at, f32x4.add(v128.load(sums + at), f32x4.mul(v128.load(line + at), share)));
      }
    }
    for (let x = 0; x < width; x++, result += 4) storeBytes(result, v128.load(sums + (x << 4)));
  }
}

/** Average blocks of a whole number of pixels. */
export function averageBlocks(
  image: usize,
  stride: i32,
  blockX: i32,
  blockY: i32,
  width: i32,
  height: i32,
  result: usize,
): void {
  const isFour = blockX == 2 && blockY == 2;
  const share = f32x4.splat(<f32>(1 / <f64>(blockX * blockY)));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, result += 4) {
      let sum = i32x4.splat(isFour ? 2 : 0);
      for (let row = 0; row < blockY; row++) {
        let from = image + (y * blockY + row) * stride + ((x * blockX) << 2);
        for (let column = 0; column < blockX; column++, from += 4) sum = i32x4.add(sum, pixel(from));
      }
      if (isFour) {
        const words = i16x8.narrow_i32x4_s(i32x4.shr_s(sum, 2), sum);
        v128.store32_lane(result, i8x16.narrow_i16x8_u(words, words), 0);
      } else {
        storeBytes(result, f32x4.mul(f32x4.convert_i32x4_s(sum), share));
      }
    }
  }
}
