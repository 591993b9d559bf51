// Sends a text over WebSocket and succeeds when it comes back.
const net = require('net');

const socket = net.connect(Number(process.argv[2]), '127.0.0.1');
socket.write('GET /ws HTTP/1.1\r\nHost: app.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
    + 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n');
let seen = '', sent = false;
socket.on('data', (data) => {
    seen += data.toString('latin1');
    if (!sent && seen.includes('\r\n\r\n')) {
        if (!seen.startsWith('HTTP/1.1 101') || !seen.includes('s3pPLMBiTxaQ9kYGzzhZRbK+xOo=')) {
            throw new Error(seen);
        }
        sent = true;
        const text = Buffer.from('hello');
        const mask = [1, 2, 3, 4];
        socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, ...mask]),
            text.map((byte, at) => byte ^ mask[at % 4])]));
    }
    if (seen.endsWith('\x81\x05hello')) process.exit(0);
});
setTimeout(() => { console.log(seen); process.exit(1); }, 10000);
