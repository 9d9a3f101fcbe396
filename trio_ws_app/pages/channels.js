// Many subscriptions over one connection: the part of Centrifugo's client protocol that a page needs.
//
//   import { connect } from "./channels.js";
//   const client = connect({ data: { name: "Ada" } });
//   const room = client.subscribe("room:lobby", {
//     onSubscribed: () => room.publish({ text: "hello" }),
//     onPublication: ({ data, info }) => ...,
//   });
//   const answer = await client.rpc("sum", [1, 2]); // once it is connected
//
// The connection comes back by itself (see socket.js), and so do the subscriptions, each from its position:
// what was missed comes first. connect takes the options of socket.js url, query and onState, and:
//
//   token, data        who connects, as the application wants it
//   onConnect(result)  connected, also again; result.data is the application's
//   onPublication(publication, channel)  of a channel that the server has subscribed this client to
//   onGap(channel)     publications of such a channel were lost
//
// subscribe(channel, options) takes, all of which may be left out:
//
//   data               for the application
//   joinLeave          whether to be told who comes and goes
//   onPublication(p)   p.data, and p.info if a client has published it: user, client, conn_info
//   onSubscribed(r)    subscribed, also again; r.recovered says whether all that was missed has come
//   onGap()            what was missed could not be recovered; what follows is new
//   onJoin(info), onLeave(info)
//   onUnsubscribed({ code, message })  over, and not to come back
//
// publish, rpc, presence and history return promises, which are rejected with { code, message }, with code 0
// while there is no connection. A subscription also has unsubscribe().

import { connect as open } from "./socket.js";

const NO_CONNECTION = { code: 0, message: "not connected" };
const SLACK = 10_000; // milliseconds that the server's ping may be late
const RETRY = 2_000;
const isFinal = (code) => (code >= 3500 && code < 4000) || code >= 4500 || code === 1000 || code === 1008;

export function connect({
  token = "",
  data,
  onConnect = () => {},
  onPublication = () => {},
  onGap = () => {},
  ...rest
} = {}) {
  const subscriptions = new Map(); // by channel: those that are wanted
  const places = new Map(); // by channel: the place of the server's subscriptions
  const waiting = new Map(); // by number: { resolve, reject } of the commands that wait for replies
  let lastNumber = 0;
  let isConnected = false;
  let watchdog;
  let patience = 0;

  function send(command) {
    lastNumber += 1;
    const number = lastNumber;
    socket.send(JSON.stringify({ id: number, ...command }));
    return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
  }

  const call = (command) => (isConnected ? send(command) : Promise.reject(NO_CONNECTION));

  async function greet() {
    const subs = Object.fromEntries([...places].map(([channel, place]) => [channel, { recover: true, ...place }]));
    try {
      connected(await send({ connect: { token, data, subs } }));
    } catch ({ code, message, temporary }) {
      if (!code) return; // the connection was lost, and comes back
      if (temporary) return void socket.restart();
      socket.close(message);
    }
  }

  function connected(result) {
    isConnected = true;
    patience = result.ping ? result.ping * 1000 + SLACK : 0;
    watch();
    const wanted = [...subscriptions.values()]; // those that onConnect adds begin by themselves
    onConnect(result);
    for (const [channel, sub] of Object.entries(result.subs ?? {})) {
      if (sub.was_recovering && !sub.recovered) onGap(channel);
      places.set(channel, placeOf(sub));
      for (const publication of sub.publications ?? []) published(channel, publication);
    }
    wanted.forEach((subscription) => subscription.begin());
  }

  // The server pings; its silence is that of a connection that is gone.
  function watch() {
    clearTimeout(watchdog);
    if (patience) watchdog = setTimeout(() => socket.restart(), patience);
  }

  function received(text) {
    watch();
    for (const line of text.split("\n")) {
      const reply = JSON.parse(line);
      if (reply.id) settle(reply);
      else if (reply.push) pushed(reply.push);
      else socket.send("{}");
    }
  }

  function settle({ id, error, ...reply }) {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) reject?.(error);
    else resolve?.(Object.values(reply)[0] ?? {});
  }

  function pushed({ channel, pub, join, leave, unsubscribe, subscribe }) {
    const subscription = subscriptions.get(channel);
    if (pub) published(channel, pub);
    else if (join) subscription?.options.onJoin?.(join.info);
    else if (leave) subscription?.options.onLeave?.(leave.info);
    else if (subscribe) places.set(channel, placeOf(subscribe));
    else if (unsubscribe) ended(channel, unsubscribe);
  }

  function ended(channel, { code, reason }) {
    places.delete(channel);
    const subscription = subscriptions.get(channel);
    if (code >= 2500) subscription?.begin();
    else subscription?.over({ code, message: reason });
  }

  function published(channel, publication) {
    const subscription = subscriptions.get(channel);
    if (subscription) return subscription.take(publication);
    if (!places.has(channel)) return; // it was on its way when the channel was left
    if (publication.offset) places.set(channel, placeOf(publication));
    onPublication(publication, channel);
  }

  function lost() {
    isConnected = false;
    clearTimeout(watchdog);
    waiting.forEach(({ reject }) => reject(NO_CONNECTION));
    waiting.clear();
  }

  function subscribe(channel, options = {}) {
    let place;
    let retry;
    let isOver = false;

    const subscription = {
      options,

      async begin() {
        clearTimeout(retry);
        if (isOver) return;
        const { data: wish, joinLeave: join_leave } = options;
        const recovery = place ? { recover: true, ...place } : {};
        try {
          subscribed(await send({ subscribe: { channel, data: wish, join_leave, ...recovery } }));
        } catch (error) {
          if (error.temporary) retry = setTimeout(() => isConnected && subscription.begin(), RETRY);
          else if (error.code) subscription.over(error);
        }
      },

      take(publication) {
        if (publication.offset) place = placeOf(publication);
        options.onPublication?.(publication);
      },

      over(error) {
        isOver = true;
        subscriptions.delete(channel);
        options.onUnsubscribed?.(error);
      },
    };

    function subscribed(result) {
      if (isOver) return;
      if (result.was_recovering && !result.recovered) options.onGap?.();
      if (result.recoverable) place = placeOf(result);
      options.onSubscribed?.(result);
      for (const publication of result.publications ?? []) subscription.take(publication);
    }

    function unsubscribe() {
      isOver = true;
      subscriptions.delete(channel);
      if (isConnected) send({ unsubscribe: { channel } }).catch(() => {});
    }

    subscriptions.set(channel, subscription);
    if (isConnected) subscription.begin();
    return {
      publish: (value) => call({ publish: { channel, data: value } }),
      presence: async () => Object.values((await call({ presence: { channel } })).presence ?? {}),
      history: async (limit) => newest(await call({ history: { channel, limit, reverse: true } })),
      unsubscribe,
    };
  }

  const socket = open({ ...rest, isFinal, onOpen: greet, onMessage: received, onClose: lost });
  return {
    subscribe,
    rpc: async (method, value) => (await call({ rpc: { method, data: value } })).data,
    isConnected: () => isConnected,
    close: () => socket.close(),
  };
}

const newest = ({ publications = [] }) => publications.reverse();
const placeOf = ({ epoch, offset = 0 }) => ({ epoch, offset });
