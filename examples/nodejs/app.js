// The smallest application that shows it all: it tells what it saw, sets a large cookie, and echoes over WebSocket.
const http = require('http');
const crypto = require('crypto');

let connections = 0;
const server = http.createServer((req, res) => {
    if (req.url === '/token') {
        res.setHeader('Set-Cookie', 'jwt=' + 'x'.repeat(12000));
        return res.end('signed in\n');
    }
    res.setHeader('Content-Type', 'application/json');
    res.end(JSON.stringify({ method: req.method, url: req.url, connections, headers: req.headers }) + '\n');
});
server.on('connection', () => connections++);

// One frame in, the same frame out (RFC 6455); texts below 126 bytes are enough here.
server.on('upgrade', (req, socket) => {
    const accept = crypto.createHash('sha1')
        .update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
        + `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.on('data', (frame) => {
        const length = frame[1] & 127;
        const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ frame[2 + at % 4]);
        socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
    });
    socket.on('error', () => socket.destroy());
});

server.listen(Number(process.argv[2]), '127.0.0.1');
