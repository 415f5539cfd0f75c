(() => {
  const part = (name) => document.querySelector(`[data-tidegate="${name}"]`) || document.createElement("i");
  const page = part("page"), again = part("again"), bar = part("bar");
  const words = { pulling: "Downloading its image", starting: "Starting", ready: "Ready" };
  let begun = 0, usual = 0, events;
  const seconds = (ms) => (ms < 60000 ? `${Math.floor(ms / 1000)} s` : `${Math.floor(ms / 60000)} min ${Math.floor(ms / 1000) % 60} s`);
  const tick = () => {
    if (!begun) return;
    const waited = Date.now() - begun;
    const about = usual >= 1000 && waited < 3 * usual ? ` of about ${seconds(usual)}` : "";
    part("time").textContent = seconds(waited) + about;
    if (usual) {
      page.classList.add("measured");
      // Never full before it is ready.
      bar.style.width = `${Math.min(96, 100 * (1 - Math.exp(-1.6 * waited / usual)))}%`;
    }
  };
  const title = (text) => { document.title = text; part("title").textContent = text; };
  const go = () => {
    part("phase").textContent = words.ready;
    bar.style.width = "100%";
    location.reload();
  };
  const failed = (told) => {
    begun = 0;
    page.classList.add("failed");
    title(`${told.service} did not start`);
    part("reason").textContent = told.words;
    part("cause").textContent = told.cause || "";
    again.hidden = false;
  };
  const follow = () => {
    let known = false;
    events = new EventSource("/.well-known/tidegate/wake?for=" + encodeURIComponent(location.pathname));
    events.addEventListener("phase", (event) => {
      const told = JSON.parse(event.data);
      known = true;
      begun = Date.now() - told.waited_ms;
      usual = told.usual_ms;
      page.classList.remove("failed");
      title(`${told.service} is starting`);
      part("phase").textContent = words[told.phase];
      tick();
    });
    events.addEventListener("ready", () => { events.close(); go(); });
    events.addEventListener("failed", (event) => { events.close(); failed(JSON.parse(event.data)); });
    events.onerror = () => {
      events.close();
      // The gateway knows nothing of a wake: the page itself tells what there is, by and by.
      setTimeout(known ? follow : () => location.reload(), known ? 1000 : 3000);
    };
  };
  again.addEventListener("click", () => location.reload());
  setInterval(tick, 250);
  follow();
})();
