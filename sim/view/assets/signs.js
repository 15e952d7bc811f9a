// Shapes and words of what is shown: a state's sign, a message's family.

export const STATES = {
  up: ["●", "Up: it takes writes and answers reads."],
  open: ["●", "Open: this writer has the volume."],
  down: ["○", "Down: it has crashed; what it had synced is still on its disk."],
  behind: ["◐", "Behind: it is up, and lacks records that are complete elsewhere."],
  opening: ["◐", "Opening: it seals, finds the VDL and copies what is missing."],
  healing: ["◍", "Damaged: not everything that it ever acknowledged is there; the others bring it back."],
  slow: ["◔", "Slow: its network and disk take many times as long."],
  "slow disk": ["◔", "Slow disk: its disk takes many times as long."],
  full: ["◕", "Full: its disk takes no more writes."],
  "cut off": ["◌", "Cut off: some of the others cannot reach it, or it them."],
  clogged: ["◌", "Clogged: what it sends is held back."],
  damaged: ["◍", "Damaged: something on its disk did not match its checksum."],
  paused: ["‖", "Paused: it hears and says nothing until it is resumed."],
  lost: ["✕", "Lost: its disk is gone, or was rolled back to an older copy, and with it every promise made on it."],
  fenced: ["✕", "Fenced: a segment has told it of a later writer; it stops."],
};

export function stateSign(state) {
  return STATES[state]?.[0] ?? "·";
}

export function stateWords(state) {
  return STATES[state]?.[1] ?? "Not there yet.";
}

const STAGES = {
  acknowledged: "It is on this segment's disk with all before it, and the writer has heard so.",
  "on disk": "It is on this segment's disk with all before it; the writer has not heard so.",
  "above a gap": "It is on this segment's disk, but something before it is missing: the SCL stands in front of the gap, and nothing is acknowledged.",
  received: "It has come to this segment, and is not on its disk yet.",
  lost: "It was here, and is gone or annulled.",
  "lost on the way": "The network has lost it on the way to this segment.",
  "not there": "It has not come to this segment.",
};

/** What it means how far a segment is with a commit. */
export function stageWords(stage) {
  return STAGES[stage] ?? "";
}

export const FAMILIES = {
  write: ["●", "redo and its acknowledgements"],
  read: ["◆", "reads and their answers"],
  gossip: ["▲", "gossip between segments"],
  recovery: ["■", "seals, tables and other recovery"],
};

const BY_NAME = [
  [/gossip|layer/i, "gossip"],
  [/confirm/i, "read"], // of an epoch, as a strict read asks for it
  [/seal|table|epoch|log/i, "recovery"],
  [/write|ack|batch|heartbeat/i, "write"],
  [/read|page|floor|image|list/i, "read"],
];

const families = new Map();

/** The family of a message's type, by its name: what its dot looks like. */
export function family(type) {
  let found = families.get(type);
  if (!found) {
    found = BY_NAME.find(([pattern]) => pattern.test(type))?.[1] ?? "gossip";
    families.set(type, found);
  }
  return found;
}

/** Words for what the page itself draws; the film's own come first. */
export const OWN_WORDS = {
  LSN: "Log sequence number: the place of a record in the log, given by the one writer.",
  SCL: "Segment complete LSN: up to here this segment has every record of its group.",
  PGCL: "Protection group complete LSN: up to here a write quorum of the group has everything.",
  VCL: "Volume complete LSN: every record up to here has reached its write quorum.",
  VDL: "Volume durable LSN: the last whole mini-transaction up to the VCL. A commit returns when the VDL has reached it.",
  gap: "From the first record that is missing to the last that has come: the SCL waits in front of it.",
  received: "The highest LSN that has come, with or without holes before it.",
  epoch: "Volume epoch: the number of a writer incarnation. Segments refuse a lower one.",
  table: "Epoch of the truncation table that this segment has adopted: its configuration.",
  starts: "How often this node has been started.",
  waiting: "Commits that are in the log and wait for the VDL.",
  "next LSN": "The next log sequence number that the writer will give.",
  ring: "One part for each of six copies. A part fills when that segment's acknowledgement has come; four make the commit.",
  AZ: "Availability zone: a place that fails as a whole. Two of each group's six segments are in each of three.",
  annulled: "LSNs that a recovery has annulled: none of them ever exists again.",
};
