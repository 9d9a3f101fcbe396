// Drives the package centrifuge, in Node.js or in a page: orders come in, what happens is told, as JSON.

function drive(Centrifuge, url, options, tell) {
  const tokens = []; // that wait to be given
  const askForToken = (context) => new Promise((resolve) => {
    tokens.push(resolve);
    tell({ event: "wants token", channel: context?.channel ?? null });
  });
  const subscriptions = new Map();
  let client;

  function create({ settings = {}, refreshes = false }) {
    client = new Centrifuge(url, { minReconnectDelay: 50, maxReconnectDelay: 500, ...options, ...settings, ...(refreshes && { getToken: askForToken }) });
    client.on("connected", ({ client: id, data }) => tell({ event: "connected", id, data }));
    client.on("connecting", ({ code }) => tell({ event: "connecting", code }));
    client.on("disconnected", ({ code, reason }) => tell({ event: "disconnected", code, reason }));
    client.on("error", ({ error }) => tell({ event: "error", code: error.code }));
    client.on("message", ({ data }) => tell({ event: "message", data }));
    client.on("subscribed", ({ channel, recovered, wasRecovering }) => (
      tell({ event: "server subscribed", channel, recovered, was_recovering: wasRecovering })
    ));
    client.on("unsubscribed", ({ channel }) => tell({ event: "server unsubscribed", channel }));
    client.on("publication", ({ channel, data }) => tell({ event: "server publication", channel, data }));
    client.connect();
  }

  function subscribe({ channel, settings = {}, refreshes = false }) {
    const subscription = client.newSubscription(channel, {
      minResubscribeDelay: 50, maxResubscribeDelay: 500, ...settings, ...(refreshes && { getToken: askForToken }),
    });
    subscriptions.set(channel, subscription);
    subscription.on("subscribed", ({ recovered, wasRecovering, data }) => (
      tell({ event: "subscribed", channel, recovered, was_recovering: wasRecovering, data })
    ));
    subscription.on("subscribing", ({ code }) => tell({ event: "subscribing", channel, code }));
    subscription.on("unsubscribed", ({ code, reason }) => tell({ event: "unsubscribed", channel, code, reason }));
    subscription.on("publication", ({ data, info, offset }) => (
      tell({ event: "publication", channel, data, user: info?.user, offset })
    ));
    subscription.on("join", ({ info }) => tell({ event: "join", channel, user: info.user }));
    subscription.on("leave", ({ info }) => tell({ event: "leave", channel, user: info.user }));
    subscription.on("error", ({ error }) => tell({ event: "subscription error", channel, code: error.code }));
    subscription.subscribe();
  }

  const orders = {
    create,
    subscribe,
    subscribeToMany({ channels }) { channels.forEach((channel) => subscribe({ channel })); },
    unsubscribe({ channel }) { subscriptions.get(channel).unsubscribe(); },
    publish({ channel, data }) { return subscriptions.get(channel).publish(data); },
    async presence({ channel }) {
      const { clients } = await subscriptions.get(channel).presence();
      return Object.values(clients).map(({ user }) => user).sort();
    },
    async presenceStats({ channel }) {
      const { numClients, numUsers } = await subscriptions.get(channel).presenceStats();
      return { clients: numClients, users: numUsers };
    },
    async history({ channel, ...asked }) {
      const { publications } = await subscriptions.get(channel).history(asked);
      return publications.map(({ data }) => data);
    },
    async rpc({ method, data }) { return (await client.rpc(method, data)).data; },
    giveToken({ token }) { tokens.shift()(token); },
    disconnect() { client.disconnect(); },
    connect() { client.connect(); },
  };

  return async ({ number, order, ...fields }) => {
    try {
      tell({ event: "done", number, result: await orders[order](fields) });
    } catch (error) {
      tell({ event: "failed", number, code: error.code, text: `${error.message ?? error}` });
    }
  };
}

if (typeof process !== "undefined") {
  const [{ Centrifuge }, { default: WebSocket }, readline] = await Promise.all(
    [import("centrifuge"), import("ws"), import("node:readline")],
  );
  const drivers = new Map();
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const { client, url, ...order } = JSON.parse(line);
    const tell = (what) => console.log(JSON.stringify({ client, ...what }));
    if (!drivers.has(client)) drivers.set(client, drive(Centrifuge, url, { websocket: WebSocket }, tell));
    drivers.get(client)(order);
  });
}
