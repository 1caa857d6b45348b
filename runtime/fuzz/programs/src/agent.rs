//! What the agent reads: settings, requests of applications, arrays, its durable state and
//! what lies in its store.

use std::path::Path;

use arbitrary::Unstructured;
use drover_agent::config::Config;
use drover_agent::local::Request;
use drover_agent_core::Durable;
use drover_agent_store::{
    Journal as _, KvOp, Medium as _, MemJournal, MemMedium, OutboxQuota, RecordKey, Store,
};
use drover_bundle::{DType, Tensor};
use drover_fuzz::bound::{POSTCARD, bounded, linear};
use drover_fuzz::draw::draw;
use drover_fuzz::parser::{self, Parser, noise};
use drover_runtime::npy;

/// All parsers of the agent.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "agent settings",
        bound: linear(512, 256 * 1024),
        limit: 64 * 1024,
        read: read_settings,
        seeds: || {
            let config = Config::default();
            vec![config.to_toml().expect("defaults are UTF-8").into_bytes()]
        },
    },
    Parser {
        name: "agent request",
        bound: linear(256, 64 * 1024),
        limit: 64 * 1024,
        read: |parser, bytes| {
            let request = bounded(parser, bytes.len(), || Request::parse(bytes));
            if let Err(why) = &request {
                assert!(why.contains("ops are"), "{why}");
            }
            request.is_ok()
        },
        seeds: || {
            [
                r#"{"op":"subscribe"}"#,
                r#"{"op":"status"}"#,
                r#"{"op":"push","row":[1.5,null,-2e3]}"#,
                r#"{"row":{"a":1,"b":null}}"#,
            ]
            .map(|line| line.as_bytes().to_vec())
            .to_vec()
        },
    },
    Parser {
        name: "agent Durable",
        bound: POSTCARD,
        limit: 1 << 20,
        read: |parser, bytes| {
            let decode = |bytes: &[u8]| Durable::decode(bytes).ok();
            let durable = bounded(parser, bytes.len(), || decode(bytes));
            if let Some(durable) = &durable {
                let written = durable.encode();
                let again = decode(&written).expect("what was written can be read");
                assert_eq!(*durable, again);
            }
            durable.is_some()
        },
        seeds: || parser::drawn_seeds::<Durable>(|durable| Some(durable.encode())),
    },
    Parser {
        name: "runtime .npy",
        // What the longest header holds while it is read, and the data.
        bound: linear(8, 3 << 20),
        limit: 1 << 20,
        read: |parser, bytes| {
            let path = Path::new("in.npy");
            let tensor = bounded(parser, bytes.len(), || npy::parse(path, bytes));
            match &tensor {
                Ok(tensor) => assert!(tensor.is_consistent()),
                Err(error) => assert!(error.to_string().starts_with("in.npy")),
            }
            tensor.is_ok()
        },
        seeds: arrays,
    },
];

fn read_settings(parser: &Parser, bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let path = Path::new("agent.toml");
    let config = bounded(parser, bytes.len(), || Config::parse(text, path));
    match config {
        Ok(config) => {
            // A path may hold what TOML cannot write; everything else reads back as it was.
            if let Ok(text) = config.to_toml() {
                let again = Config::parse(&text, path).expect("what was written can be read");
                assert_eq!(again.to_toml().ok(), Some(text));
            }
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("agent.toml line"), "{message}");
            false
        }
    }
}

fn arrays() -> Vec<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("drover-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is a folder for temporary files");
    let path = folder.join("seed.npy");
    let seeds = [DType::F32, DType::I8, DType::U8, DType::I32, DType::I64].map(|dtype| {
        let bytes = noise(1, 6 * dtype.size());
        let tensor = Tensor::from_bytes(dtype, vec![2, 3], bytes).expect("six values");
        npy::write(&path, &tensor).expect("the folder is there");
        std::fs::read(&path).expect("it was just written")
    });
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    // Found by this target: a header of twelve brackets took minutes.
    let headers = ["{".repeat(60), format!("[{}", "1,".repeat(2000))];
    let hostile = headers.map(|header| {
        let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
        [
            b"\x93NUMPY\x01\x00",
            &len.to_le_bytes()[..],
            header.as_bytes(),
        ]
        .concat()
    });
    [&seeds[..], &hostile].concat()
}

/// The first two bits choose between raw bytes, drawn states, and damaged stores.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((choice, rest)) if choice % 4 < 2 => {
            parser::dispatch(PARSERS, &[&[choice >> 2], rest].concat());
        }
        Some((choice, rest)) if choice % 4 == 2 => drawn_state(rest),
        Some((_, rest)) => damaged_store(rest),
        None => {}
    }
}

/// Seeds of [`run`].
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = parser::seeds(PARSERS);
    for seed in &mut seeds {
        seed[0] <<= 2;
    }
    for kind in [2, 3] {
        seeds.extend((1..20).map(|n| [&[kind], &noise(n, 400)[..]].concat()));
    }
    seeds
}

fn drawn_state(bytes: &[u8]) {
    if let Some(durable) = draw::<Durable>(&mut Unstructured::new(bytes)) {
        let read = Durable::decode(&durable.encode()).expect("any state can be kept");
        assert_eq!(durable, read);
    }
}

const STATE: &[u8] = b"the state";
const RECORD: &[u8] = b"the record";
const CHUNK: &[u8] = b"the chunk";
/// Changes to one medium.
const MAX_STEPS: u32 = 32;

/// A journal with something of everything, whose medium is then damaged: what is read back is
/// what was written or nothing. A checksum is no signature: who writes whole values may also
/// write one that fits, and then exactly that is read.
fn damaged_store(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let quota = OutboxQuota::default();
    let mut journal = MemJournal::new(quota);
    let digest = [7; 32];
    let boot = journal.begin_boot().expect("memory does not fail");
    journal.save_state("ota", STATE).expect("it fits");
    for seq in 1..=4 {
        journal.append(boot, seq, RECORD).expect("it fits");
    }
    journal.put_chunk(&digest, 0, CHUNK).expect("it fits");
    journal
        .put_file(&digest, "model.onnx", CHUNK)
        .expect("it fits");
    journal.flush().expect("memory does not fail");
    let mut medium = journal.medium().clone();
    let (mut steps, mut forged) = (0, false);
    // Each looks at all values and may add one: thousands of them would take minutes.
    while !u.is_empty() && steps < MAX_STEPS {
        forged |= damage(&mut medium, u);
        steps += 1;
    }
    // Two changed bytes are noticed in values this short; four may be a new checksum.
    forged |= steps > 2;
    let damaged = medium.clone();

    let (mut store, report) = Store::start(medium, quota, 0).expect("damage is no error");
    if let Ok(Some(state)) = store.load_state("ota") {
        assert!(state == STATE || forged && lies_in(&damaged, &state));
    }
    let records = store
        .oldest(100, 1 << 20, None)
        .expect("damage is no error");
    assert!(records.len() as u64 <= report.records);
    for (RecordKey { boot: of, seq }, record) in &records {
        let written = *of == boot && (1..=4).contains(seq) && record == RECORD;
        assert!(written || forged && lies_in(&damaged, record));
    }
    if let Ok(Some(chunk)) = store.get_chunk(&digest, 0) {
        assert_eq!(chunk, CHUNK);
    }
    for bundle in store.list_bundles().expect("damage is no error") {
        for (name, _) in &bundle.files {
            if let Ok(Some(file)) = store.open_file(&bundle.digest, name) {
                assert_eq!(file, CHUNK);
            }
        }
    }
    // Whatever was found, the agent goes on from there.
    let next = store.begin_boot().expect("memory does not fail");
    store.append(next, 1, RECORD).expect("it fits");
    store.save_state("ota", STATE).expect("it fits");
    assert_eq!(
        store.load_state("ota").ok().flatten().as_deref(),
        Some(STATE)
    );
}

/// Whether a value of the medium ends with `bytes`.
fn lies_in(medium: &MemMedium, bytes: &[u8]) -> bool {
    let mut found = false;
    let all = medium.scan(&[], &[0xff; 4], &mut |_, value| {
        found |= value.ends_with(bytes);
        std::ops::ControlFlow::Continue(())
    });
    all.expect("memory does not fail");
    found
}

/// Changes one value; whether all of it was replaced.
fn damage(medium: &mut MemMedium, u: &mut Unstructured<'_>) -> bool {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let all = medium.scan(&[], &[0xff; 4], &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    });
    all.expect("memory does not fail");
    let Ok(pick) = u.choose_index(found.len().max(1)) else {
        return false;
    };
    let Some((mut key, mut value)) = found.into_iter().nth(pick) else {
        return false;
    };
    let kind = u.int_in_range(0..=4).unwrap_or(0);
    match kind {
        0 => value.truncate(u.arbitrary_len::<u8>().unwrap_or(0).min(value.len())),
        1 => value = u.arbitrary().unwrap_or_default(),
        2 => key.extend(u.bytes(1).unwrap_or_default()),
        3 => {
            let at = u.choose_index(value.len().max(1)).unwrap_or(0);
            let flip = u.arbitrary::<u8>().unwrap_or(1);
            value.iter_mut().skip(at).take(1).for_each(|b| *b ^= flip);
        }
        _ => value.extend(u.bytes(1).unwrap_or_default()),
    }
    let put = vec![KvOp::Put(key, value)];
    medium.apply(put).expect("memory does not fail");
    medium.flush().expect("memory does not fail");
    kind == 1
}
