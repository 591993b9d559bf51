// Frames of gRPC-Web, in a browser and in Node.
const framed = (bytes) => {
  const frame = new Uint8Array(5 + bytes.length);
  new DataView(frame.buffer).setUint32(1, bytes.length);
  frame.set(bytes, 5);
  return frame;
};

const bytesOf = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const textOf = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

// Pieces of base64 are padded one by one.
const decoded = (text) => bytesOf(text.match(/.{4}/gs)?.map((group) => atob(group)).join("") ?? "");

// The messages of a body, and its trailers.
function parsed(bytes) {
  const messages = [], trailers = {};
  for (let at = 0; at < bytes.length; ) {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + 1);
    const frame = bytes.subarray(at + 5, at + 5 + length);
    if (bytes[at] === 0x80) {
      for (const line of textOf(frame).split("\r\n").filter(Boolean)) {
        const [name, value] = line.split(/: ?(.*)/s);
        trailers[name] = value;
      }
    } else {
      messages.push(frame);
    }
    at += 5 + length;
  }
  return { messages, trailers };
}

if (typeof module === "object") module.exports = { framed, bytesOf, textOf, decoded, parsed };
