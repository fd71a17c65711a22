//! Changes of a program of host calls that leave its steps whole. A byte that is inserted moves all that follow, so that no call
//! after it is what it was; a fuzzer that does so finds little that takes more than one call.

/// Bytes of a step, as the guest `driver` has it.
const STEP_BYTES: usize = 20;

/// The first byte says whose calls they are; the steps follow.
const HEAD_BYTES: usize = 1;

/// Changes the first `size` bytes of `data`, which may become `most`, and returns how many there are then. `plain` changes any bytes
/// in the same way.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
    plain: impl Fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let steps = size.saturating_sub(HEAD_BYTES) / STEP_BYTES;
    let (what, one, other) = (seed % 16, seed as usize / 16, seed as usize / 4096);
    if steps == 0 || most < size || what == 0 {
        return plain(data, size, most);
    }
    let place = |step: usize| {
        let begin = HEAD_BYTES + step % steps * STEP_BYTES;
        begin..begin + STEP_BYTES
    };
    let (one, other) = (place(one), place(other));
    match what {
        // A further call, made of one that is there.
        1..=3 if size + STEP_BYTES <= most => {
            data.copy_within(one.start..size, one.end);
            let from = if other.start < one.start {
                other
            } else {
                place(other.start / STEP_BYTES + 1)
            };
            data.copy_within(from, one.start);
            size + STEP_BYTES
        }
        4 if steps > 1 => {
            data.copy_within(one.end..size, one.start);
            size - STEP_BYTES
        }
        5 | 6 => {
            let mut kept = [0; STEP_BYTES];
            if let (Some(first), true) = (data.get(one.clone()), one != other) {
                kept.copy_from_slice(first);
                data.copy_within(other.clone(), one.start);
                if let Some(second) = data.get_mut(other) {
                    second.copy_from_slice(&kept);
                }
            }
            size
        }
        7 => {
            if let Some(head) = data.first_mut() {
                *head = (seed >> 8) as u8;
            }
            size
        }
        // One call with other arguments.
        _ => {
            if let Some(step) = data.get_mut(one) {
                plain(step, STEP_BYTES, STEP_BYTES);
            }
            size
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stay_whole() {
        // A program whose steps can be told from each other, and a change that marks where it was made.
        let program: Vec<u8> = [9]
            .into_iter()
            .chain((1..=5).flat_map(|step| [step; STEP_BYTES]))
            .collect();
        let marked = |data: &mut [u8], size: usize, _: usize| {
            data[..size].fill(77);
            size
        };
        let mut lengths = [0; 3];
        for seed in 0..100_000 {
            let mut data = program.clone();
            data.resize(program.len() + STEP_BYTES, 0);
            let most = data.len();
            let size = mutate(&mut data, program.len(), most, seed, marked);
            assert_eq!(size % STEP_BYTES, HEAD_BYTES);
            lengths[size / STEP_BYTES - 4] += 1;
            for step in data[HEAD_BYTES..size].chunks(STEP_BYTES) {
                assert!(step.iter().all(|byte| *byte == step[0]), "{seed}: {step:?}");
                assert!([1, 2, 3, 4, 5, 77].contains(&step[0]), "{seed}: {step:?}");
            }
        }
        assert!(lengths.iter().all(|count| *count > 1000), "{lengths:?}");
        // What has no step yet, or no room, is anybody's.
        assert_eq!(mutate(&mut [0; 9], 9, 9, 1, marked), 9);
        assert_eq!(
            mutate(&mut program.clone(), program.len(), 30, 1, |_, _, most| most),
            30
        );
    }
}
