/** Archives as at the end of a model file. */

/** @param {string} text */
const bytesOf = (text) => new TextEncoder().encode(text);

/**
 * An archive with one uncompressed member, after some other bytes. Offsets count from the start of the file.
 *
 * @param {string} name
 * @param {string} content
 * @param {{method?: number}} options
 */
export function fileWith(name, content, { method = 0 } = {}) {
  const [before, title, data] = [bytesOf("flatbuffer"), bytesOf(name), bytesOf(content)];
  const local = new DataView(new ArrayBuffer(30));
  local.setUint32(0, 0x04034b50, true);
  local.setUint16(26, title.length, true);
  const central = new DataView(new ArrayBuffer(46));
  central.setUint32(0, 0x02014b50, true);
  central.setUint16(10, method, true);
  central.setUint32(20, data.length, true);
  central.setUint16(28, title.length, true);
  central.setUint32(42, before.length, true);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(10, 1, true);
  end.setUint32(16, before.length + 30 + title.length + data.length, true);
  const parts = [before, local, title, data, central, title, end];
  return Uint8Array.from(parts.flatMap((part) => [...new Uint8Array(part.buffer, part.byteOffset, part.byteLength)]));
}
