// gunzip for browsers without DecompressionStream (RFC 1951 and 1952); slower, same result.
const LENGTHS = { base: [3], extra: [] };
const DISTANCES = { base: [1], extra: [] };

function ranges(table, count, perStep, first) {
  for (let code = 0; code < count; code += 1) {
    const extra = code < first ? 0 : Math.floor((code - first) / perStep) + 1;
    table.extra.push(extra);
    table.base.push(table.base[code] + 2 ** extra);
  }
}
ranges(LENGTHS, 28, 4, 8);
LENGTHS.base[28] = 258;
LENGTHS.extra[28] = 0;
ranges(DISTANCES, 30, 2, 4);

// Canonical Huffman code: how many codes have each length, and the symbols in their order
function huffman(lengths) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length] += 1;
  counts[0] = 0;
  const offsets = new Uint16Array(16);
  for (let length = 1; length < 15; length += 1) offsets[length + 1] = offsets[length] + counts[length];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => { if (length) symbols[offsets[length]++] = symbol; });
  return { counts, symbols };
}

const FIXED = {
  literals: huffman([...Array(288).keys()].map((symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8))),
  distances: huffman(Array(30).fill(5)),
};
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

class Bits {
  constructor(bytes, place) {
    this.bytes = bytes;
    this.place = place;
    this.held = 0;
    this.count = 0;
  }

  take(count) {
    while (this.count < count) {
      this.held |= this.bytes[this.place++] << this.count;
      this.count += 8;
    }
    const value = this.held & ((1 << count) - 1);
    this.held >>>= count;
    this.count -= count;
    return value;
  }

  symbol({ counts, symbols }) {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length += 1) {
      code |= this.take(1);
      if (code - counts[length] < first) return symbols[index + code - first];
      index += counts[length];
      first = (first + counts[length]) << 1;
      code <<= 1;
    }
    throw new Error("not a deflate stream");
  }
}

function codesOf(bits) {
  const [literals, distances, count] = [bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4];
  const short = Array(19).fill(0);
  for (let index = 0; index < count; index += 1) short[ORDER[index]] = bits.take(3);
  const code = huffman(short);
  const lengths = [];
  while (lengths.length < literals + distances) {
    const symbol = bits.symbol(code);
    if (symbol < 16) lengths.push(symbol);
    else if (symbol === 16) lengths.push(...Array(3 + bits.take(2)).fill(lengths.at(-1)));
    else lengths.push(...Array(symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7)).fill(0));
  }
  return { literals: huffman(lengths.slice(0, literals)), distances: huffman(lengths.slice(literals)) };
}

function headerEnd(bytes) {
  const flags = bytes[3];
  let place = 10;
  if (flags & 4) place += 2 + bytes[place] + 256 * bytes[place + 1];
  for (const flag of [8, 16]) if (flags & flag) place = bytes.indexOf(0, place) + 1;
  return flags & 2 ? place + 2 : place;
}

function gunzip(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true);
  const out = new Uint8Array(size);
  const bits = new Bits(bytes, headerEnd(bytes));
  let at = 0;
  for (let last = 0; !last;) {
    last = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) {
      bits.held = bits.count = 0;
      const length = bytes[bits.place] + 256 * bytes[bits.place + 1];
      out.set(bytes.subarray(bits.place + 4, bits.place + 4 + length), at);
      bits.place += 4 + length;
      at += length;
      continue;
    }
    const codes = kind === 1 ? FIXED : codesOf(bits);
    for (let symbol = bits.symbol(codes.literals); symbol !== 256; symbol = bits.symbol(codes.literals)) {
      if (symbol < 256) {
        out[at++] = symbol;
        continue;
      }
      const length = LENGTHS.base[symbol - 257] + bits.take(LENGTHS.extra[symbol - 257]);
      const far = bits.symbol(codes.distances);
      const distance = DISTANCES.base[far] + bits.take(DISTANCES.extra[far]);
      for (let copied = 0; copied < length; copied += 1, at += 1) out[at] = out[at - distance];
    }
  }
  return out;
}
