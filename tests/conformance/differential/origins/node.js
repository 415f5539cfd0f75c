// An origin that notes every request it sees as a line of JSON in LOG, and answers `ok`.
const fs = require("fs");
const log = fs.openSync(process.env.LOG, "a");

require("http")
    .createServer((request, response) => {
        const pieces = [];
        request.on("data", (piece) => pieces.push(piece));
        request.on("end", () => {
            const noted = {
                method: request.method,
                target: request.url,
                host: request.headers.host || "",
                forwarded: request.headers["x-forwarded-for"] || "",
                hop: request.headers["x-hop"] || "",
                body: Buffer.concat(pieces).toString("latin1"),
            };
            fs.writeSync(log, JSON.stringify(noted) + "\n");
            response.end("ok");
        });
    })
    .listen(Number(process.env.PORT), "127.0.0.1");
