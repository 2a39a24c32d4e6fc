// Where content is cut: the rolling gear hash of the Xet specification ("Chunking").
//
// Built once a machine by `gear_native.py`; `gear.py` does the same with numpy where there is no compiler.
#include <cstddef>
#include <cstdint>

// Cuts `data`, which begins at a cut, and writes the ends of its chunks to `ends`. Stops where the next cut cannot be
// known from these bytes (unless `last`), and returns the number of ends.
extern "C" std::ptrdiff_t allmend_cut(const std::uint64_t *table, const std::uint8_t *data, std::ptrdiff_t length,
                                      std::ptrdiff_t least, std::ptrdiff_t most, std::uint64_t mask, int last,
                                      std::int64_t *ends, std::ptrdiff_t room) {
    std::ptrdiff_t begin = 0, count = 0;
    while (begin < length && count < room) {
        const std::ptrdiff_t limit = begin + most;
        const std::ptrdiff_t to = limit < length ? limit : length;
        // The hash sees 64 bytes: rolling 64 before the first place where a cut may be is enough.
        std::ptrdiff_t at = begin + least - 64;
        std::uint64_t hash = 0;
        for (const std::ptrdiff_t warm = begin + least - 1; at < warm && at < to; ++at) hash = (hash << 1) + table[data[at]];
        std::ptrdiff_t end = -1;
        for (; at < to; ++at) {
            hash = (hash << 1) + table[data[at]];
            if ((hash & mask) == 0) {
                end = at + 1;
                break;
            }
        }
        if (end < 0) {
            if (limit <= length) end = limit;
            else if (last) end = length;
            else break;
        }
        ends[count++] = end;
        begin = end;
    }
    return count;
}
