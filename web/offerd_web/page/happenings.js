// What has happened lately: read from how slaves, frameworks and the master were before a change and are after it.

const MOST = 100;

export class Happenings {
  constructor() {
    /** The latest first: {at, kind: "good" | "bad" | "note", text, href} */
    this.list = [];
  }

  add(at, kind, text, href = "") {
    this.list.unshift({ at, kind, text, href });
    this.list.length = Math.min(this.list.length, MOST);
  }

  slave(before, after, now) {
    const href = `#/slave/${encodeURIComponent(after.slave_id)}`;
    const name = after.hostname || after.slave_id;
    const say = (kind, what) => this.add(now, kind, `${name} ${what}`, href);
    if (!before) say(after.state === "lost" ? "bad" : "good", after.state === "lost" ? "is lost" : "has registered");
    else if (before.state !== after.state) {
      if (after.state === "lost") say("bad", "is lost");
      else say(after.state === "active" ? "good" : "note", before.state === "lost" ? `is back, ${after.state}` : `is ${after.state}`);
    } else if (before.is_connected !== after.is_connected && after.state !== "lost") {
      say(after.is_connected ? "good" : "bad", after.is_connected ? "is heard again" : "has lost its connection");
    }
    if (before && before.is_disk_full !== after.is_disk_full) {
      say(after.is_disk_full ? "bad" : "good", after.is_disk_full ? "has a full disk" : "has room on its disk again");
    }
  }

  framework(before, after, now) {
    const href = `#/framework/${encodeURIComponent(after.framework_id)}`;
    if (!before && after.state !== "ended") this.add(now, "note", `framework ${after.name} has registered`, href);
    else if (before && before.state !== after.state) {
      const words = { ended: "has ended", disconnected: "has no scheduler connected", active: "is active again" };
      const kind = after.state === "disconnected" ? "bad" : "note";
      this.add(now, kind, `framework ${after.name} ${words[after.state] || after.state}`, href);
    }
  }

  cluster(before, after, now) {
    if (before?.master && after.master && before.master.master_id !== after.master.master_id) {
      this.add(now, "bad", `another master leads: ${after.master.address}`);
    }
  }
}
