"use strict";
// A server of Pangolin's shape, for tests: its ports, routes and answers as far as the tests ask for them, on
// Node's own http module and the `ws` package, as Pangolin has them. It is not Pangolin and knows no database: a
// request says itself, in the header x-answer, which status it wants. It keeps a log of all it did, by which the
// exporter is judged.
//
//     node pangolin_server.js ADDRESS LOG_PORT
//
// GET http://127.0.0.1:LOG_PORT/ answers with the log; PUT there sets what Traefik gets as its configuration, PUT of
// /STATUS how its requests are answered from then on: 0 is never.
// SOCKETS in the environment are descriptors of sockets that listen on its ports already, in their order.

const crypto = require("crypto");
const http = require("http");
const zlib = require("zlib");
const { WebSocketServer } = require("ws");

const [address, logPort] = process.argv.slice(2);
const ports = { external: 3000, internal: 3001, next: 3002, integration: 3003 };
const sockets = (process.env.SOCKETS || "").split(",").filter(Boolean).map(Number);
const log = { exchanges: [], connections: [], frames: {}, unanswered: 0 };
let traefikConfiguration = { http: {} };
let traefikAnswer = 200;

const compressed = ["newt/wg/connect", "newt/sync", "newt/tcp/add"];

function envelope(status, data, message) {
    const good = status < 400;
    return JSON.stringify({ data: good ? data : null, success: good, error: !good, message, status });
}

function bodyFor(service, path, status, request) {
    if (service === "next") {
        return "<!DOCTYPE html><title>Pangolin</title>".padEnd(Number(request.headers["x-size"] || 64));
    }
    if (path === "/api/v1/traefik-config" && status === 200) {
        return JSON.stringify(traefikConfiguration);
    }
    if (path === "/api/v1/badger/verify-session") {
        const refusal = request.headers["x-redirect"] ? { redirectUrl: request.headers["x-redirect"] } : {};
        return envelope(status, { valid: request.headers["x-valid"] === "true", ...refusal }, "Access");
    }
    if (path.endsWith("/get-token")) {
        return envelope(status, { token: request.headers["x-secret"] || "none" }, "Token created successfully");
    }
    return envelope(status, { padding: "x".repeat(Number(request.headers["x-size"] || 0)) }, "Answered");
}

// Of a body, as Express makes it (its package etag).
function etagOf(body) {
    const hash = crypto.createHash("sha1").update(body, "utf8").digest("base64").substring(0, 27);
    return `W/"${Buffer.byteLength(body).toString(16)}-${hash}"`;
}

function serve(service) {
    const server = http.createServer((request, response) => {
        const begin = process.hrtime.bigint();
        const path = request.url.split("?")[0];
        const polled = path === "/api/v1/traefik-config" ? traefikAnswer : 200;
        const status = Number(request.headers["x-answer"] || polled);
        request.resume();
        request.on("end", () => {
            const answer = () => {
                if (status === 0) {
                    log.unanswered += 1;
                    return;
                }
                const body = status === 204 || status === 304 ? "" : bodyFor(service, path, status, request);
                response.writeHead(status, {
                    "Content-Type": "application/json; charset=utf-8",
                    ...(status === 204 || status === 304
                        ? {}
                        : { "Content-Length": Buffer.byteLength(body), ETag: etagOf(body) }),
                });
                response.end(request.method === "HEAD" ? undefined : body);
            };
            setTimeout(answer, Number(request.headers["x-delay"] || 0));
        });
        response.on("finish", () => {
            const from = request.socket.remoteAddress.replace("::ffff:", "");
            log.exchanges.push({
                service, method: request.method, path, status, loopback: from.startsWith("127."),
                seconds: Number(process.hrtime.bigint() - begin) / 1e9,
            });
        });
    });
    server.keepAliveTimeout = 60000;
    if (sockets.length > 0) {
        server.listen({ fd: sockets[Object.keys(ports).indexOf(service)] });
    } else {
        server.listen(ports[service], address);
    }
    return server;
}

function countFrame(direction, type) {
    const key = `${direction} ${type}`;
    log.frames[key] = (log.frames[key] || 0) + 1;
}

// What newt asks for, answered as Pangolin does: long ones compressed in a binary frame, the others as text. In
// fragments as well, which Pangolin does not do.
function answerTo(message, socket) {
    const send = (type, data, fragments = 1) => {
        const text = JSON.stringify({ type, data, configVersion: 1 });
        const binary = compressed.includes(type);
        const payload = binary ? zlib.gzipSync(text) : text;
        const size = Math.ceil(payload.length / fragments);
        countFrame("egress", type);
        for (let i = 0; i < fragments; i++) {
            socket.send(payload.slice(i * size, (i + 1) * size), { binary, fin: i === fragments - 1 });
        }
    };
    if (message.type === "newt/ping") {
        send("pong", {});
    } else if (message.type === "newt/wg/register") {
        const targets = Array.from({ length: 300 }, (_, i) => `4${String(i).padStart(4, "0")}:10.0.${i % 256}.7:80`);
        send("newt/wg/connect", { endpoint: "gerbil:51820", targets });
        send("newt/sync", { targets });
    } else if (message.type === "newt/blueprint/apply") {
        send("newt/blueprint/results", { success: true, message: "y".repeat(70000) }, 9);
    }
}

function acceptWebSockets(server) {
    const plain = new WebSocketServer({ noServer: true });
    const deflating = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });
    server.on("upgrade", (request, socket, head) => {
        const url = new URL(request.url, "http://pangolin");
        const token = url.searchParams.get("token") || "";
        if (!token.startsWith("good-")) {
            log.connections.push("unauthorized");
            socket.write("HTTP/1.1 401 Unauthorized\r\n\r\n");
            socket.destroy();
            return;
        }
        const acceptor = url.searchParams.get("compression") === "1" ? deflating : plain;
        acceptor.handleUpgrade(request, socket, head, (webSocket) => {
            log.connections.push("success");
            webSocket.on("message", (data, isBinary) => {
                const text = isBinary && data[0] === 0x1f ? zlib.gunzipSync(data).toString() : data.toString();
                const message = JSON.parse(text);
                countFrame("ingress", message.type);
                answerTo(message, webSocket);
            });
            // `ws` answers a ping by itself.
            webSocket.on("ping", () => {
                countFrame("ingress", "ws_ping");
                countFrame("egress", "ws_pong");
            });
            webSocket.on("close", (code) => {
                // 1006: no close frame came. Else there was one each way.
                if (code !== 1006) {
                    countFrame("ingress", "ws_close");
                    countFrame("egress", "ws_close");
                }
            });
        });
    });
}

acceptWebSockets(serve("external"));
for (const service of ["internal", "next", "integration"]) {
    serve(service);
}
http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
        if (request.method === "PUT" && request.url !== "/") {
            traefikAnswer = Number(request.url.slice(1));
        } else if (request.method === "PUT") {
            traefikConfiguration = JSON.parse(Buffer.concat(parts).toString());
        }
        response.end(JSON.stringify(log));
    });
}).listen(Number(logPort), "127.0.0.1");
