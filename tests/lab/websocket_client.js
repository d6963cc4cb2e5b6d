"use strict";
// newt's side of the WebSocket, for tests: connects with the `ws` package, sends what newt sends (masked, as all
// clients do; some of it in fragments), waits for the answers and closes.
//
//     node websocket_client.js URL PUBLIC_KEY ROUNDS COMPRESSION(0|1) CLOSE(clean|abrupt)
//
// Prints one line of JSON: what it sent and received by type.

const zlib = require("zlib");
const WebSocket = require("ws");

const [url, publicKey, rounds, compression, close] = process.argv.slice(2);
const counts = { sent: {}, received: {} };
const socket = new WebSocket(url, { perMessageDeflate: compression === "1" ? { threshold: 0 } : false });
let answersWanted = 0;

function send(type, data, fragments = 1) {
    const text = JSON.stringify({ type, data });
    counts.sent[type] = (counts.sent[type] || 0) + 1;
    const size = Math.ceil(text.length / fragments);
    for (let i = 0; i < fragments; i++) {
        socket.send(text.slice(i * size, (i + 1) * size), { fin: i === fragments - 1 });
    }
}

function end() {
    console.log(JSON.stringify(counts));
    if (close === "abrupt") {
        process.exit(0);
    }
    socket.close(1000);
}

socket.on("open", () => {
    send("newt/wg/register", { backwardsCompatible: true, newtVersion: "1.15.0", publicKey });
    answersWanted += 2;
    for (let round = 0; round < Number(rounds); round++) {
        send("newt/ping", {});
        answersWanted += 1;
        send("newt/receive-bandwidth", { clients: "z".repeat(round * 37) }, 1 + (round % 5));
        send("newt/nobody-knows-this", { round });
    }
    send("newt/blueprint/apply", { contents: "b".repeat(100000) }, 25);
    answersWanted += 1;
    socket.ping();
    answersWanted += 1;
});
const answered = () => {
    answersWanted -= 1;
    if (answersWanted === 0) {
        end();
    }
};
socket.on("pong", answered);
socket.on("message", (data, isBinary) => {
    const text = isBinary && data[0] === 0x1f ? zlib.gunzipSync(data).toString() : data.toString();
    const type = JSON.parse(text).type;
    counts.received[type] = (counts.received[type] || 0) + 1;
    answered();
});
socket.on("unexpected-response", (_, response) => {
    console.log(JSON.stringify({ refused: response.statusCode }));
    process.exit(0);
});
socket.on("error", (error) => {
    console.error(String(error));
    process.exit(1);
});
