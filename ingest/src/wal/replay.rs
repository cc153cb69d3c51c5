//! Reads the log of a tenant back after a start. Nothing here stops a start but a version or a disk that cannot be read:
//! damage is set aside, logged with its place, and the rest goes on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracehouse_engine::{Error, ErrorKind, Result, TenantId, Trace, TraceId};
use uuid::Uuid;

use super::{
    Manifest, WalIo,
    append::segment_path,
    segment::{Header, Item, Records, check_header},
};

/// The files of one tenant's log.
#[derive(Debug, Default)]
pub struct TenantLog {
    /// Manifests, that of the oldest segment first. Segments that they name may be deleted already.
    pub sealed: Vec<Manifest>,
    /// Segments of the active generation, oldest first.
    pub active: Vec<u64>,
    /// A number that no segment has or had.
    pub next_number: u64,
}

/// The tenants that have a folder in the log.
pub fn tenants(wal_folder: &Path) -> Result<Vec<(TenantId, PathBuf)>> {
    let mut tenants = Vec::new();
    for path in entries(wal_folder)? {
        match path.file_name().and_then(|n| n.to_str()).map(str::parse) {
            Some(Ok(tenant)) if path.is_dir() => tenants.push((tenant, path)),
            _ => tracing::warn!(path = %path.display(), "not a tenant's write-ahead log, ignored"),
        }
    }
    tenants.sort();
    Ok(tenants)
}

/// Finds out what the files in a tenant's folder are.
pub fn scan(folder: &Path) -> Result<TenantLog> {
    let mut segments = BTreeSet::new();
    let mut manifests = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        match name.rsplit_once('.') {
            Some((number, "wal")) if number.parse().is_ok_and(|n| segment_path(folder, n) == path) => {
                segments.extend(number.parse::<u64>());
            }
            Some((block, "sealed")) if block.parse::<Uuid>().is_ok() => {
                manifests.extend(read_manifest(folder, block.parse().unwrap_or_default())?);
            }
            Some((_, "tmp")) => std::fs::remove_file(&path).map_err(|e| Error::from(e).context(path.display()))?,
            Some((_, "corrupt")) => {}
            _ => tracing::warn!(path = %path.display(), "not a write-ahead log file, ignored"),
        }
    }
    let next_number = segments.iter().chain(manifests.iter().flat_map(|m| &m.segments)).max().map_or(1, |n| n + 1);
    // A manifest whose writing failed half-way may be back after a crash, beside the one that was written in its place.
    manifests.sort_by_key(|m| std::cmp::Reverse(m.segments.len()));
    let mut claimed = HashSet::<u64>::new();
    manifests.retain(|m| {
        let free = m.segments.iter().all(|n| !claimed.contains(n));
        claimed.extend(m.segments.iter().filter(|_| free));
        free
    });
    manifests.sort_by_key(|m| m.segments.first().copied());
    segments.retain(|n| !claimed.contains(n));
    Ok(TenantLog { sealed: manifests, active: segments.into_iter().collect(), next_number })
}

fn read_manifest(folder: &Path, block: Uuid) -> Result<Option<Manifest>> {
    match Manifest::read(folder, block) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(e) if e.kind() == ErrorKind::Data => {
            let path = Manifest::path(folder, block);
            tracing::error!(path = %path.display(), error = %e, "manifest set aside; spans of this block may be counted twice");
            set_aside(&path)?;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The spans of the segments of one generation, to tell those that were carried over from one into the next. A span that a
/// client sent twice stays, as long as both copies are in one segment.
#[derive(Debug, Default)]
pub struct CarriedOver {
    segment_of: HashMap<(TraceId, Vec<u8>, i32), u64>,
}

impl CarriedOver {
    /// Takes out of a part of segment `number` the spans that an earlier segment has, and groups that are empty then.
    pub fn drop_from(&mut self, part: &mut Trace, number: u64) {
        let id = part.id;
        for rs in &mut part.resource_spans {
            for ss in &mut rs.scope_spans {
                ss.spans.retain(|s| *self.segment_of.entry((id, s.span_id.clone(), s.kind)).or_insert(number) == number);
            }
            rs.scope_spans.retain(|ss| !ss.spans.is_empty());
        }
        part.resource_spans.retain(|rs| !rs.scope_spans.is_empty());
    }
}

/// What reading a segment has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Records read.
    pub records: usize,
    /// Bytes of a torn tail, cut.
    pub torn_bytes: usize,
    /// Bytes that were damaged, set aside.
    pub corrupt_bytes: usize,
}

/// Reads all records of a segment in order. `each` gets the request and its size in bytes.
pub fn read_segment(path: &Path, each: &mut dyn FnMut(ExportTraceServiceRequest, usize)) -> Result<SegmentReport> {
    let file = std::fs::read(path).map_err(|e| Error::from(e).context(format!("cannot read {}", path.display())))?;
    let mut report = SegmentReport::default();
    match check_header(&file) {
        Header::Good => {}
        Header::Torn => return Ok(SegmentReport { torn_bytes: file.len(), ..report }),
        Header::UnknownVersion(version) => {
            return Err(Error::data(format!(
                "{} has write-ahead log version {version}, known is {}: start the version of tracehouse that wrote it, or move the file away",
                path.display(),
                super::segment::VERSION
            )));
        }
        Header::Corrupt => {
            tracing::error!(path = %path.display(), bytes = file.len(), "not a write-ahead log segment, set aside");
            set_aside(path)?;
            return Ok(SegmentReport { corrupt_bytes: file.len(), ..report });
        }
    }
    for item in Records::new(&file) {
        match item {
            Item::Record(payload) => match ExportTraceServiceRequest::decode(payload) {
                Ok(request) => {
                    report.records += 1;
                    each(request, payload.len());
                }
                Err(e) => tracing::error!(path = %path.display(), error = %e, "a record is whole but is no export request, skipped"),
            },
            Item::Torn(range) => {
                tracing::warn!(path = %path.display(), bytes = range.len(), "the segment ends within a record, cut (it was not acked)");
                report.torn_bytes += range.len();
                cut(path, range.start)?;
            }
            Item::Corrupt(range) => {
                tracing::error!(path = %path.display(), from = range.start, to = range.end, "damaged bytes set aside; their spans are lost");
                report.corrupt_bytes += range.len();
                let aside = path.with_extension(format!("wal.{}.corrupt", range.start));
                std::fs::write(&aside, &file[range]).map_err(|e| Error::from(e).context(aside.display()))?;
            }
        }
    }
    Ok(report)
}

/// Deletes the segments of a committed block and then its manifest.
pub fn remove_sealed(io: &dyn WalIo, folder: &Path, manifest: &Manifest) -> std::io::Result<()> {
    remove_segments(io, folder, &manifest.segments)?;
    // Were the manifest gone first, what is left of the segments would be taken for active ones.
    io.sync_folder(folder)?;
    io.remove(&Manifest::path(folder, manifest.block))
}

/// Deletes segments.
pub fn remove_segments(io: &dyn WalIo, folder: &Path, segments: &[u64]) -> std::io::Result<()> {
    segments.iter().try_for_each(|n| io.remove(&segment_path(folder, *n)))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = |e: std::io::Error| Error::from(e).context(format!("cannot read {}", folder.display()));
    std::fs::read_dir(folder).map_err(context)?.map(|entry| Ok(entry.map_err(context)?.path())).collect()
}

fn cut(path: &Path, len: usize) -> Result<()> {
    let cut = std::fs::OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(len as u64));
    cut.map_err(|e| Error::from(e).context(format!("cannot cut {}", path.display())))
}

fn set_aside(path: &Path) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".corrupt");
    std::fs::rename(path, name).map_err(|e| Error::from(e).context(format!("cannot rename {}", path.display())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracehouse_engine::TraceId;

    use super::*;
    use crate::{
        test_support::{request, span},
        wal::{DiskIo, SegmentWriter, segment},
    };

    fn write(folder: &Path, number: u64, requests: &[ExportTraceServiceRequest]) -> PathBuf {
        let mut writer = SegmentWriter::create(&DiskIo, folder, number).unwrap();
        for request in requests {
            let mut record = Vec::new();
            segment::frame(&mut record, &request.encode_to_vec());
            writer.append(&record).unwrap();
        }
        writer.path().to_owned()
    }

    fn read(path: &Path) -> (Vec<ExportTraceServiceRequest>, SegmentReport) {
        let mut requests = Vec::new();
        let report = read_segment(path, &mut |r, _| requests.push(r)).unwrap();
        (requests, report)
    }

    #[test]
    fn a_torn_tail_is_cut_once() {
        let dir = tempfile::tempdir().unwrap();
        let requests = [request("a", [span(1, 1)]), request("a", [span(1, 2)])];
        let path = write(dir.path(), 1, &requests);
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - segment::RECORD_HEADER_BYTES - requests[1].encoded_len();
        for cut in last + 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (got, report) = read(&path);
            assert_eq!((got.len(), report.torn_bytes), (1, cut - last));
            assert_eq!(got[0], requests[0]);
            assert_eq!(read(&path).1, SegmentReport { records: 1, ..SegmentReport::default() });
        }
    }

    #[test]
    fn damage_is_set_aside_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 1, &[request("a", [span(1, 1)]), request("a", [span(1, 2)]), request("a", [span(1, 3)])]);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (got, report) = read(&path);
        assert_eq!(got, [request("a", [span(1, 1)]), request("a", [span(1, 3)])]);
        assert!(report.corrupt_bytes > 0);
        assert!(std::fs::read_dir(dir.path()).unwrap().any(|e| e.unwrap().path().extension().is_some_and(|x| x == "corrupt")));
        std::fs::write(&path, b"something else").unwrap();
        assert_eq!(read(&path).0, []);
        assert!(!path.exists());
    }

    #[test]
    fn a_newer_version_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000001.wal");
        std::fs::write(&path, b"THWAL\r\n\x02whatever").unwrap();
        let error = read_segment(&path, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        (1..=5).for_each(|n| drop(write(dir.path(), n, &[])));
        let carried = vec![TraceId([7; 16])];
        Manifest { block: a, segments: vec![1, 2], carried: carried.clone() }.write(&DiskIo, dir.path()).unwrap();
        Manifest { block: b, segments: vec![4, 9], carried: vec![] }.write(&DiskIo, dir.path()).unwrap();
        // The remains of a seal of segment 1 that failed and was done again as `a`.
        Manifest { block: Uuid::from_u128(3), segments: vec![1], carried: vec![] }.write(&DiskIo, dir.path()).unwrap();
        std::fs::write(dir.path().join("x.tmp"), b"").unwrap();
        std::fs::write(Manifest::path(dir.path(), Uuid::from_u128(4)), b"damaged").unwrap();
        let log = scan(dir.path()).unwrap();
        let (first, second) =
            (Manifest { block: a, segments: vec![1, 2], carried }, Manifest { block: b, segments: vec![4, 9], carried: vec![] });
        assert_eq!(log.sealed, [first, second]);
        assert_eq!(log.active, [3, 5]);
        assert_eq!(log.next_number, 10);
        assert!(!dir.path().join("x.tmp").exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip(batches in prop::collection::vec(prop::collection::vec((0u8..4, any::<u64>()), 0..20), 0..10)) {
            let dir = tempfile::tempdir().unwrap();
            let requests: Vec<_> = batches.iter().map(|b| request("svc", b.iter().map(|&(t, s)| span(t, s)))).collect();
            let path = write(dir.path(), 1, &requests);
            prop_assert_eq!(read(&path).0, requests);
        }
    }
}
