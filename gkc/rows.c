/* The rule of a knowledge row: which vectors belong to (user, item, category), laid side by side.

   KEEP (CIKM'22), equation 6: K(u, i, c) = [K_u, K_i, K_u * K_i, K_uc]. Called by gkc/rows.py, which
   checks the sizes of all arrays; every index that a file, a record or the store gives is checked
   here. Nothing is allocated, nothing is kept between two calls. What is stored, and how, is told in
   docs/store-format.md; all of it is little-endian. */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gkc reads its tables as they are stored, which is little-endian"
#endif

enum { ABSENT = 0, FOUND = 1, DEFAULT = 2 };               /* status of a part */
enum { USER = 0, ITEM = 1, USER_ITEM = 2, USER_CATEGORY = 3, PARTS = 4 };
enum { F16 = 0, F32 = 1, INT8 = 2 };                       /* types of stored and answered numbers */
enum { FINE = 0, BAD_TABLE = 1, BAD_RECORD = 2, BAD_QUESTION = 3, BAD_STRINGS = 4 };
                                                           /* what a function returns */

enum { RECORD_HEADER = 8, AHEAD = 8, LOOKED_UP_AT_ONCE = 256, TILE = 256, CACHE_LINE = 64,
       LONGEST_STRING = 128, LONG_BUCKET = 4 };

/* ---- Numbers ------------------------------------------------------------------------------------
   A half becomes a float exactly; a float becomes the nearest half, ties to even, as numpy does it.
   The processor does so eight at a time where it can; the plain loops give the same bits. */

static uint32_t bits_of(float number) { uint32_t bits; memcpy(&bits, &number, 4); return bits; }
static float float_of(uint32_t bits) { float number; memcpy(&number, &bits, 4); return number; }

static float widened(uint16_t half) {
  uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, bits = magnitude + 0x38000000;
  if (magnitude >= 0x0f800000) bits = magnitude + 0x70000000;             /* infinite, no number */
  if (magnitude > 0x0f800000) bits |= 0x00400000;
  if (magnitude < 0x00800000)                                             /* less than 0x1p-14 */
    bits = bits_of(float_of(magnitude + 0x38800000) - 0x1p-14f);
  return float_of(bits | (uint32_t)(half & 0x8000) << 16);
}

static uint16_t narrowed(float number) {
  uint32_t bits = bits_of(number), magnitude = bits & 0x7fffffff, half;
  if (magnitude > 0x7f800000) half = 0x7e00 | (magnitude >> 13 & 0x3ff);  /* not a number */
  else if (magnitude >= 0x47800000) half = 0x7c00;                        /* 65536 and more */
  else if (magnitude < 0x38800000) half = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  else half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  return (uint16_t)(half | (bits >> 16 & 0x8000));
}

static void widen_plain(const uint8_t *halves, float *out, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    uint16_t half;
    memcpy(&half, halves + 2 * k, 2);
    out[k] = widened(half);
  }
}

static void narrow_plain(const uint8_t *numbers, uint8_t *out, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    float number;
    uint16_t half;
    memcpy(&number, numbers + 4 * k, 4);
    half = narrowed(number);
    memcpy(out + 2 * k, &half, 2);
  }
}

static void multiply_plain(const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t n) {
  for (int64_t k = 0; k < n; k++) {
    uint16_t x, y, product;
    memcpy(&x, a + 2 * k, 2);
    memcpy(&y, b + 2 * k, 2);
    product = narrowed(widened(x) * widened(y));
    memcpy(out + 2 * k, &product, 2);
  }
}

#if defined(__x86_64__)
/* GCC 12 does not vectorise conversions of _Float16, so these three are spelt out. */
#define WITH_F16C __attribute__((target("avx,f16c")))

WITH_F16C static void widen_f16c(const uint8_t *halves, float *out, int64_t n) {
  int64_t k = 0;
  for (; k + 8 <= n; k += 8)
    _mm256_storeu_ps(out + k, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(halves + 2 * k))));
  widen_plain(halves + 2 * k, out + k, n - k);
}

WITH_F16C static void narrow_f16c(const uint8_t *numbers, uint8_t *out, int64_t n) {
  int64_t k = 0;
  for (; k + 8 <= n; k += 8) {
    __m256 x = _mm256_loadu_ps((const void *)(numbers + 4 * k));
    _mm_storeu_si128((void *)(out + 2 * k), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  narrow_plain(numbers + 4 * k, out + 2 * k, n - k);
}

WITH_F16C static void multiply_f16c(const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t n) {
  int64_t k = 0;
  for (; k + 8 <= n; k += 8) {
    __m256 x = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(a + 2 * k)));
    __m256 y = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(b + 2 * k)));
    _mm_storeu_si128((void *)(out + 2 * k),
                     _mm256_cvtps_ph(_mm256_mul_ps(x, y), _MM_FROUND_TO_NEAREST_INT));
  }
  multiply_plain(a + 2 * k, b + 2 * k, out + 2 * k, n - k);
}
#endif

static void (*widen)(const uint8_t *, float *, int64_t) = widen_plain;
static void (*narrow)(const uint8_t *, uint8_t *, int64_t) = narrow_plain;
static void (*multiply_halves)(const uint8_t *, const uint8_t *, uint8_t *, int64_t) = multiply_plain;

/* ---- Checksums ----------------------------------------------------------------------------------
   CRC-32 as zlib has it, of which `sum` is the complement until all is summed up. A table has what a
   byte adds that so many others come after. */

static uint32_t crc_tables[8][256];

static void make_crc_tables(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t sum = byte;
    for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320 : 0);
    crc_tables[0][byte] = sum;
  }
  for (int after = 1; after < 8; after++)
    for (int byte = 0; byte < 256; byte++) {
      uint32_t sum = crc_tables[after - 1][byte];
      crc_tables[after][byte] = sum >> 8 ^ crc_tables[0][sum & 255];
    }
}

static uint32_t sum_plain(uint32_t sum, const uint8_t *bytes, int64_t n) {
  for (; n >= 8; bytes += 8, n -= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    word ^= sum, sum = 0;
    for (int k = 0; k < 8; k++) sum ^= crc_tables[7 - k][word >> 8 * k & 255];
  }
  for (; n > 0; bytes++, n--) sum = sum >> 8 ^ crc_tables[0][(sum ^ *bytes) & 255];
  return sum;
}

#if defined(__x86_64__)
/* Products without carry take bytes to where they would have the same remainder so many bits later:
   64 of them at a time onto the next 64, then 16 onto 16. */
#define WITH_PCLMUL __attribute__((target("pclmul,sse4.1")))

WITH_PCLMUL static __m128i carried(__m128i sum, __m128i by, __m128i onto) {
  __m128i low = _mm_clmulepi64_si128(sum, by, 0x00), high = _mm_clmulepi64_si128(sum, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

WITH_PCLMUL static uint32_t sum_pclmul(uint32_t sum, const uint8_t *bytes, int64_t n) {
  const __m128i by_64 = _mm_set_epi64x(0x1C6E41596, 0x154442BD4); /* x^(512 - 32), x^(512 + 32) */
  const __m128i by_16 = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0); /* x^(128 - 32), x^(128 + 32) */
  const __m128i *words = (const void *)bytes;
  __m128i s[4];
  uint8_t rest[16];
  if (n < 64) return sum_plain(sum, bytes, n);
  for (int k = 0; k < 4; k++) s[k] = _mm_loadu_si128(words + k);
  s[0] = _mm_xor_si128(s[0], _mm_cvtsi32_si128((int)sum));
  for (words += 4, n -= 64; n >= 64; words += 4, n -= 64)
    for (int k = 0; k < 4; k++) s[k] = carried(s[k], by_64, _mm_loadu_si128(words + k));
  for (int k = 1; k < 4; k++) s[0] = carried(s[0], by_16, s[k]);
  for (; n >= 16; words++, n -= 16) s[0] = carried(s[0], by_16, _mm_loadu_si128(words));
  _mm_storeu_si128((void *)rest, s[0]);
  return sum_plain(sum_plain(0, rest, 16), (const void *)words, n);
}
#endif

static uint32_t (*sum_up)(uint32_t, const uint8_t *, int64_t) = sum_plain;

/* Choose how this process converts halves and sums up; call it once before anything else. Returns
   whether the processor converts them; if `plain` is set, it is asked for neither. */
int gkc_choose(int plain) {
  widen = widen_plain, narrow = narrow_plain, multiply_halves = multiply_plain;
  sum_up = sum_plain;
  make_crc_tables();
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!plain && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))
    sum_up = sum_pclmul;
  if (!plain && __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c")) {
    widen = widen_f16c, narrow = narrow_f16c, multiply_halves = multiply_f16c;
    return 1;
  }
#else
  (void)plain;
#endif
  return 0;
}

/* A stored vector: `width` numbers, behind their scale if they are int8. */
static int64_t stride(int64_t type, int64_t width) {
  return type == F16 ? 2 * width : type == F32 ? 4 * width : width ? 4 + width : 0;
}

/* Numbers `at` to `at + n` of a stored vector, as floats. */
static void load(int64_t type, const uint8_t *vector, int64_t at, int64_t n, float *out) {
  if (type == F16) {
    widen(vector + 2 * at, out, n);
  } else if (type == F32) {
    memcpy(out, vector + 4 * at, (size_t)(4 * n));
  } else {
    float scale;
    memcpy(&scale, vector, 4);
    for (int64_t k = 0; k < n; k++) out[k] = (float)(int8_t)vector[4 + at + k] * scale;
  }
}

static void store(int64_t type, const float *numbers, uint8_t *out, int64_t at, int64_t n) {
  if (type == F16) narrow((const uint8_t *)numbers, out + 2 * at, n);
  else memcpy(out + 4 * at, numbers, (size_t)(4 * n));
}

/* Lay one stored vector as numbers of the answer's type; zeros if there is none. */
static void lay(int64_t stored, const uint8_t *vector, int64_t n, int64_t answered, uint8_t *out) {
  float numbers[TILE];
  if (!vector) {
    memset(out, 0, (size_t)stride(answered, n));
  } else if (stored == answered) {
    memcpy(out, vector, (size_t)stride(answered, n));
  } else if (stored == F16 && answered == F32 && !((uintptr_t)out & 3)) {
    widen(vector, (float *)(void *)out, n);
  } else if (stored == F32 && answered == F16) {
    narrow(vector, out, n);
  } else {
    for (int64_t at = 0; at < n; at += TILE) {
      int64_t some = n - at < TILE ? n - at : TILE;
      load(stored, vector, at, some, numbers);
      store(answered, numbers, out, at, some);
    }
  }
}

/* Lay the product of two stored vectors: computed in float, then made the answer's type. */
static void lay_product(int64_t stored, const uint8_t *a, const uint8_t *b, int64_t n,
                        int64_t answered, uint8_t *out) {
  float x[TILE], y[TILE];
  if (stored == F16 && answered == F16) {
    multiply_halves(a, b, out, n);
    return;
  }
  for (int64_t at = 0; at < n; at += TILE) {
    int64_t some = n - at < TILE ? n - at : TILE;
    load(stored, a, at, some, x);
    load(stored, b, at, some, y);
    for (int64_t k = 0; k < some; k++) x[k] *= y[k];
    store(answered, x, out, at, some);
  }
}

/* ---- Looking ids up -----------------------------------------------------------------------------
   A table's rows are in ascending order of their ids' hashes; `starts` has the first row of each
   bucket, the hash's top bits, and the number of rows at its end. */

typedef struct {
  const uint32_t *starts;
  const int64_t *ids;
  int64_t count; /* rows */
  int64_t shift; /* 64 less the bits of a bucket's number */
} table_index;

static uint64_t hash_of(uint64_t id) { /* the finaliser of splitmix64; part of the stored format */
  id ^= id >> 30;
  id *= UINT64_C(0xBF58476D1CE4E5B9);
  id ^= id >> 27;
  id *= UINT64_C(0x94D049BB133111EB);
  return id ^ id >> 31;
}

/* Narrow a span of rows to a short one that has the first row of an id, if there is one. Ids of one
   bucket can be made up, so that a long one is no matter of chance. */
static void narrow_to(const table_index *table, int64_t id, int64_t *row, int64_t *last) {
  uint64_t hash = hash_of((uint64_t)id);
  while (*last - *row > LONG_BUCKET) {
    int64_t middle = (*row + *last) / 2;
    if (hash_of((uint64_t)table->ids[middle]) < hash) *row = middle + 1;
    else *last = middle + 1;
  }
}

/* Write the row of each id into `rows`, -1 if it has none. Passes over a few hundred ids at a time,
   each of which begins to read what the next one needs. */
int gkc_find(const table_index *table, const int64_t *ids, int64_t n, int64_t *rows) {
  for (int64_t begin = 0; begin < n; begin += LOOKED_UP_AT_ONCE) {
    int64_t end = n - begin < LOOKED_UP_AT_ONCE ? n : begin + LOOKED_UP_AT_ONCE;
    for (int64_t k = begin; k < end; k++) {
      rows[k] = (int64_t)(hash_of((uint64_t)ids[k]) >> table->shift);
      __builtin_prefetch(table->starts + rows[k]);
    }
    for (int64_t k = begin; k < end; k++) {
      uint32_t first = table->starts[rows[k]];
      if (first > table->count) return BAD_TABLE;
      __builtin_prefetch(table->ids + first);
    }
    for (int64_t k = begin; k < end; k++) {
      int64_t row = table->starts[rows[k]], last = table->starts[rows[k] + 1];
      if (last > table->count) return BAD_TABLE;
      if (last - row > LONG_BUCKET) narrow_to(table, ids[k], &row, &last);
      rows[k] = -1;
      for (; row < last; row++)
        if (table->ids[row] == ids[k]) {
          rows[k] = row;
          break;
        }
    }
  }
  return FINE;
}

/* The row of one id, -1 if it has none, -2 if the table points outside itself. */
int64_t gkc_find_one(const table_index *table, int64_t id) {
  int64_t place;
  return gkc_find(table, &id, 1, &place) ? -2 : place;
}

/* ---- Ids that are strings -----------------------------------------------------------------------
   A table's `ids` are then their keys, and its rows of one key are in ascending order of the
   strings' bytes. */

typedef struct { /* string k is from offsets[k] to before offsets[k + 1] */
  const int64_t *offsets;
  const uint8_t *bytes;
  int64_t count, size; /* strings, and bytes of all of them */
} strings;

typedef struct {
  const uint8_t *bytes;
  int64_t size; /* -1: it lies outside of all */
} string;

static string string_at(const strings *all, int64_t k) {
  int64_t begin = all->offsets[k], end = all->offsets[k + 1];
  if (begin < 0 || end < begin || end > all->size) return (string){all->bytes, -1};
  return (string){all->bytes + begin, end - begin};
}

static uint64_t key_of(string s) { /* part of the stored format */
  uint64_t hash = ((uint64_t)s.size + 1) * UINT64_C(0x9E3779B97F4A7C15);
  for (int64_t at = 0; at < s.size; at += 8) {
    uint64_t word = 0;
    int64_t left = s.size - at;
    if (left >= 8) {
      memcpy(&word, s.bytes + at, 8);
    } else if (at) { /* its last eight bytes, of which some were taken; then zeros */
      memcpy(&word, s.bytes + s.size - 8, 8);
      word >>= 8 * (8 - left);
    } else {
      while (left-- > 0) word = word << 8 | s.bytes[left];
    }
    hash = (hash ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
    hash ^= hash >> 32;
  }
  return hash;
}

/* Less than, equal to or greater than 0, as `a` comes before `b`, is the same, or comes after it. */
static int compared(string a, string b) {
  int order = memcmp(a.bytes, b.bytes, (size_t)(a.size < b.size ? a.size : b.size));
  return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Write the key of each string into `keys`. */
int gkc_keys(const strings *asked, int64_t *keys) {
  for (int64_t k = 0; k < asked->count; k++) {
    string s = string_at(asked, k);
    if (s.size < 0) return BAD_STRINGS;
    keys[k] = (int64_t)key_of(s);
  }
  return FINE;
}

/* The place of a string among ascending ones from `low` to before `high`; -1 if it is not there, -2
   if one lies outside of all. */
static int64_t place_of(string s, const strings *stored, int64_t low, int64_t high) {
  while (low < high) {
    int64_t middle = (low + high) / 2;
    string other = string_at(stored, middle);
    if (other.size < 0) return -2;
    int order = compared(other, s);
    if (!order) return middle;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return -1;
}

static int has_key(const table_index *table, int64_t row, int64_t key) {
  return row < table->count && table->ids[row] == key;
}

/* The end of the rows of one key, of which `row` is the first: steps double, then halve, as strings
   of one key can be made up in any number. */
static int64_t end_of_key(const table_index *table, int64_t row) {
  int64_t key = table->ids[row], step = 1;
  while (has_key(table, row + step, key)) step *= 2;
  for (; step; step /= 2)
    if (has_key(table, row + step, key)) row += step;
  return row + 1;
}

/* Write the row of each string into `rows`, -1 if it has none: as `gkc_find`, which finds the first
   row of its key, then by comparing bytes. */
int gkc_find_strings(const table_index *table, const strings *stored, const strings *asked,
                     int64_t *rows) {
  int64_t keys[LOOKED_UP_AT_ONCE];
  for (int64_t begin = 0; begin < asked->count; begin += LOOKED_UP_AT_ONCE) {
    int64_t left = asked->count - begin;
    strings some = {asked->offsets + begin, asked->bytes,
                    left < LOOKED_UP_AT_ONCE ? left : LOOKED_UP_AT_ONCE, asked->size};
    int outcome = gkc_keys(&some, keys);
    if (!outcome) outcome = gkc_find(table, keys, some.count, rows + begin);
    if (outcome) return outcome;
    for (int64_t k = 0; k < some.count; k++)
      if (rows[begin + k] >= 0) __builtin_prefetch(stored->offsets + rows[begin + k]);
    for (int64_t k = 0; k < some.count; k++)
      if (rows[begin + k] >= 0)
        __builtin_prefetch(string_at(stored, rows[begin + k]).bytes);
    for (int64_t k = 0; k < some.count; k++) {
      int64_t row = rows[begin + k];
      if (row < 0) continue;
      row = place_of(string_at(&some, k), stored, row, end_of_key(table, row));
      if (row < -1) return BAD_TABLE;
      rows[begin + k] = row;
    }
  }
  return FINE;
}

/* Write the place of each string among ascending ones into `places`, -1 if it is not there. */
int gkc_find_sorted(const strings *stored, const strings *asked, int64_t *places) {
  for (int64_t k = 0; k < asked->count; k++) {
    string s = string_at(asked, k);
    if (s.size < 0) return BAD_STRINGS;
    places[k] = place_of(s, stored, 0, stored->count);
    if (places[k] < -1) return BAD_TABLE;
  }
  return FINE;
}

static int64_t after_blanks(const uint8_t *text, int64_t at, int64_t end) {
  while (at < end && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'))
    at++;
  return at;
}

/* Where the string that begins at `at` ends, and what it says: up to a quote, an escape or a control
   character. Eight bytes at a time; the lowest byte that is marked in a word is one of these. */
static int64_t after_plain(const uint8_t *text, int64_t at, int64_t end, uint8_t *bytes) {
  const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
  for (; at + 8 <= end; at += 8, bytes += 8) {
    uint64_t word, quotes, slashes, stops;
    memcpy(&word, text + at, 8);
    memcpy(bytes, &word, 8);
    quotes = word ^ ones * '"', slashes = word ^ ones * '\\';
    stops = ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes);
    stops |= (word - ones * ' ') & ~word;
    if (stops & tops) return at + (__builtin_ctzll(stops & tops) >> 3);
  }
  for (; at < end && text[at] >= ' ' && text[at] != '"' && text[at] != '\\'; at++)
    *bytes++ = text[at];
  return at;
}

/* Take strings out of JSON text from `at` to `end`, with commas between them: their bytes, and in
   `offsets` where each begins and the last one ends. Returns how many there are; -1 if there is an
   escape, a string of another length than an id's, or what is no string. Whether it is UTF-8 is not
   looked at. `bytes` has room for all of the text, `offsets` for a quarter of it and two. */
int64_t gkc_take_strings(const uint8_t *text, int64_t at, int64_t end, uint8_t *bytes,
                         int64_t *offsets) {
  int64_t count = 0, size = 0;
  offsets[0] = 0;
  for (;; at++) {
    at = after_blanks(text, at, end);
    if (at >= end || text[at] != '"') return -1;
    int64_t begin = at + 1;
    at = after_plain(text, begin, end, bytes + size);
    if (at >= end || text[at] != '"') return -1;
    if (at == begin || at - begin > LONGEST_STRING) return -1;
    offsets[++count] = size += at - begin;
    at = after_blanks(text, at + 1, end);
    if (at >= end) return count;
    if (text[at] != ',') return -1;
  }
}

/* Count the values of a JSON text, but no further than `most` + 1; whether it is JSON is not looked
   at. Each comma and each bracket that opens, outside of strings, comes before one more value or
   name. */
int64_t gkc_count_values(const uint8_t *text, int64_t end, int64_t most) {
  int64_t count = 1;
  for (int64_t at = 0; at < end && count <= most; at++) {
    uint8_t c = text[at];
    if (c == '"') {
      for (at++; at < end && text[at] != '"'; at++) at += text[at] == '\\';
    } else {
      count += c == ',' || c == '[' || c == '{';
    }
  }
  return count;
}

typedef struct {
  int64_t kind, number, is_none, skip, length;
} reply; /* of Redis: how far it was read, all 0 at first */

#define LONGEST_STRING ((int64_t)1 << 26)
#define LONGEST_LINE ((int64_t)1 << 16)
#define TOO_MUCH ((int64_t)1 << 60)

/* Follow replies of Redis to the end of some bytes; return how many values their arrays announce there,
   and TOO_MUCH where a string or a line is longer than any that gkc stores. Whether they are
   well-formed is not looked at. */
int64_t gkc_announced(reply *r, const uint8_t *bytes, int64_t n) {
  int64_t announced = 0;
  for (int64_t at = 0; at < n; at++) {
    if (r->skip) { /* the bytes of a string */
      int64_t skipped = r->skip < n - at ? r->skip : n - at;
      r->skip -= skipped;
      at += skipped - 1;
      continue;
    }
    uint8_t c = bytes[at];
    if (!r->kind) {
      *r = (reply){.kind = c};
    } else if (c == '\n') { /* which is in no line of a reply but at its end */
      if (strchr("$!=", (int)r->kind) && !r->is_none) r->skip = r->number + 2;
      if (r->skip > LONGEST_STRING) return TOO_MUCH;
      if (strchr("*~>", (int)r->kind) && !r->is_none) announced += r->number;
      if (strchr("%|", (int)r->kind)) announced += 2 * r->number;
      r->kind = 0;
    } else if (++r->length > LONGEST_LINE) {
      return TOO_MUCH;
    } else if (c == '-') {
      r->is_none = 1;
    } else if (c >= '0' && c <= '9' && r->number < (int64_t)1 << 40) {
      r->number = 10 * r->number + c - '0';
    }
  }
  return announced;
}

/* Number distinct values, or pairs of values, in order of first appearance; return how many there
   are. `first` gets the row in which each appears first, `index` which of them each row has. `slots`
   holds -1 only, `mask` + 1 of them, a power of two and at least twice n. Where `has` is 0, the second
   value is none, whatever it says. `seed` is a number that nobody outside knows. */
int64_t gkc_distinct(const int64_t *values, const int64_t *seconds, const uint8_t *has, int64_t n,
                     uint64_t seed, int64_t *slots, uint64_t mask, int64_t *first, int64_t *index) {
  int64_t count = 0;
  for (int64_t k = 0; k < n; k++) {
    int has_second = seconds && has[k];
    uint64_t hash = hash_of((uint64_t)values[k] ^ seed);
    if (has_second) hash = hash_of(hash ^ (uint64_t)seconds[k]);
    for (uint64_t slot = hash & mask;; slot = (slot + 1) & mask) {
      int64_t other = slots[slot];
      if (other < 0) {
        slots[slot] = index[k] = count;
        first[count++] = k;
        break;
      }
      int64_t row = first[other];
      if (values[row] == values[k] && (seconds && has[row]) == has_second &&
          (!has_second || seconds[row] == seconds[k])) {
        index[k] = other;
        break;
      }
    }
  }
  return count;
}

/* ---- The rule ---------------------------------------------------------------------------------*/

typedef struct { /* what a generation is, the same for every request */
  table_index items;
  int64_t type, dim, category_dim;
  const int64_t *categories;
  const uint8_t *has_category;
  const uint8_t *vectors;
  const uint8_t *default_user, *default_item, *default_pair; /* stored vectors, or none */
  int64_t default_category, has_default_category;            /* of an item that is not there */
} generation;

typedef struct { /* rows of one request and generation, and where their answer goes */
  int64_t n, answer_count;
  const int64_t *answer_rows; /* which row of the answer each is; none: as they come */
  const int64_t *items;      /* to be looked up; none: that was done */
  int64_t *item_rows;        /* each item's row in the table, -1 if it is not there */
  int64_t one_item;          /* 1: the first one stands for all rows; as below */
  const int64_t *categories; /* given ones; none: no row has one */
  const uint8_t *given;
  int64_t one_category;
  const int64_t *user_index; /* none: every row has the first user */
  int64_t users;
  const int64_t *offsets;    /* of the users' records: users + 1; none: there is one record */
  int64_t record_bytes;      /* of all records; an empty record is of nobody */
  int64_t first[PARTS];      /* first column of each part, -1 if it is not asked for */
  int64_t width, type;       /* columns, and type of an answered row */
  uint8_t *answer;
  uint8_t *statuses;         /* rows of four; or none */
  int64_t *counts;           /* of each part and status, added to; or none */
  int64_t *resolved;         /* each row's category, 0 if it has none; or none */
  uint8_t *has_resolved;
} question;

typedef struct { /* a user's record, opened */
  const uint8_t *vector;
  const uint8_t *categories; /* int64, ascending */
  const uint8_t *pair_vectors;
  int64_t pairs;
  uint8_t status;
} opened_user;

static int64_t padded(int64_t bytes) { return (bytes + 7) / 8 * 8; }

static int open_user(const generation *g, const uint8_t *record, int64_t bytes, opened_user *user) {
  *user = (opened_user){g->default_user, 0, 0, 0, g->default_user ? DEFAULT : ABSENT};
  if (bytes == 0) return FINE;
  int64_t ahead = RECORD_HEADER + padded(stride(g->type, g->dim));
  int64_t pair_bytes = stride(g->type, g->category_dim);
  uint32_t pairs;
  if (bytes < ahead) return BAD_RECORD;
  memcpy(&pairs, record + 4, 4);
  if (bytes != ahead + padded((int64_t)pairs * pair_bytes) + 8 * (int64_t)pairs) return BAD_RECORD;
  user->vector = record + RECORD_HEADER;
  user->categories = record + ahead;
  user->pair_vectors = user->categories + 8 * (int64_t)pairs;
  user->pairs = pairs;
  user->status = FOUND;
  return FINE;
}

/* Return which of some records is the first that is damaged, or not its user's; -1 if none is. `sum`
   is the CRC-32 of what comes before a user's id: a number, or one of `names`. Of one record there
   need be no offsets; an empty one is of nobody. */
int64_t gkc_check_records(uint64_t sum, const uint8_t *ids, const strings *names,
                          const uint8_t *records, const int64_t *offsets, int64_t n, int64_t bytes) {
  for (int64_t k = 0; k < n; k++) {
    int64_t begin = offsets ? offsets[k] : 0, end = offsets ? offsets[k + 1] : bytes;
    string id = names ? string_at(names, k) : (string){ids + 8 * k, 8};
    uint32_t crc32;
    if (begin < 0 || end < begin || end > bytes || id.size < 0) return k;
    if (begin == end) continue;
    if (end - begin < RECORD_HEADER) return k;
    memcpy(&crc32, records + begin, 4);
    if (~sum_up(sum_up(~(uint32_t)sum, id.bytes, id.size), records + begin + 4, end - begin - 4) !=
        crc32)
      return k;
  }
  return -1;
}

/* The user's pair with a category, -1 if it was not stored. */
static int64_t find_pair(const opened_user *user, int64_t category) {
  int64_t low = 0, high = user->pairs, stored;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    memcpy(&stored, user->categories + 8 * middle, 8);
    if (stored < category) low = middle + 1;
    else high = middle;
  }
  if (low == user->pairs) return -1;
  memcpy(&stored, user->categories + 8 * low, 8);
  return stored == category ? low : -1;
}

static void prefetch_item(const generation *g, int64_t place, int64_t bytes) {
  const uint8_t *vector = g->vectors + place * bytes;
  for (int64_t at = 0; at < bytes; at += CACHE_LINE) __builtin_prefetch(vector + at);
  __builtin_prefetch(g->categories + place);
  __builtin_prefetch(g->has_category + place);
}

/* Answer rows `from` to `to`: find each one's vectors and their statuses, lay the parts asked for. */
int gkc_lay_rows(const generation *g, const question *q, const uint8_t *records, int64_t from,
                 int64_t to) {
  const int64_t item_bytes = stride(g->type, g->dim), pair_bytes = stride(g->type, g->category_dim);
  const int64_t number = q->type == F16 ? 2 : 4;
  opened_user user = {0, 0, 0, 0, ABSENT};
  int64_t last_user = -1, last_category = 0, last_pair = -2; /* -2: not looked for yet */
  if (from < 0 || to > q->n) return BAD_QUESTION;
  if (q->items) {
    int64_t begin = q->one_item ? 0 : from, n = q->one_item ? 1 : to - from;
    if (gkc_find(&g->items, q->items + begin, n, q->item_rows + begin)) return BAD_TABLE;
  }
  for (int64_t k = from; k < to; k++) {
    if (!q->one_item && k + AHEAD < to) {
      int64_t ahead = q->item_rows[k + AHEAD];
      if (ahead >= 0 && ahead < g->items.count) prefetch_item(g, ahead, item_bytes);
    }

    int64_t u = q->user_index ? q->user_index[k] : 0;
    if (u < 0 || u >= q->users) return BAD_RECORD;
    if (u != last_user) {
      int64_t begin = q->offsets ? q->offsets[u] : 0;
      int64_t end = q->offsets ? q->offsets[u + 1] : q->record_bytes;
      if (begin < 0 || end < begin || end > q->record_bytes) return BAD_RECORD;
      if (open_user(g, records + begin, end - begin, &user)) return BAD_RECORD;
      last_user = u, last_pair = -2;
    }

    int64_t place = q->item_rows[q->one_item ? 0 : k];
    if (place >= g->items.count) return BAD_TABLE;
    const uint8_t *item = place >= 0 ? g->vectors + place * item_bytes : g->default_item;
    uint8_t item_status = place >= 0 ? FOUND : item ? DEFAULT : ABSENT;

    /* The category: the one given, else the item's own, or that of items which are not there. */
    int64_t c = q->one_category ? 0 : k, category;
    int has;
    if (q->categories && q->given[c]) category = q->categories[c], has = 1;
    else if (place >= 0) category = g->categories[place], has = g->has_category[place] != 0;
    else category = g->default_category, has = g->has_default_category != 0;

    /* The pair: stored, else the default one; without a category none at all. */
    const uint8_t *pair = 0;
    uint8_t pair_status = ABSENT;
    if (has) {
      if (last_pair == -2 || category != last_category)
        last_pair = find_pair(&user, category), last_category = category;
      pair = last_pair >= 0 ? user.pair_vectors + last_pair * pair_bytes : g->default_pair;
      pair_status = last_pair >= 0 ? FOUND : pair ? DEFAULT : ABSENT;
    }

    uint8_t status[PARTS] = {user.status, item_status, DEFAULT, pair_status};
    if (user.status == ABSENT || item_status == ABSENT) status[USER_ITEM] = ABSENT;
    else if (user.status == FOUND && item_status == FOUND) status[USER_ITEM] = FOUND;

    int64_t row = q->answer_rows ? q->answer_rows[k] : k;
    if (row < 0 || row >= q->answer_count) return BAD_QUESTION;
    uint8_t *out = q->answer + row * q->width * number;
    const int64_t *first = q->first;
    if (first[USER] >= 0) lay(g->type, user.vector, g->dim, q->type, out + first[USER] * number);
    if (first[ITEM] >= 0) lay(g->type, item, g->dim, q->type, out + first[ITEM] * number);
    if (first[USER_ITEM] >= 0) {
      uint8_t *at = out + first[USER_ITEM] * number;
      if (status[USER_ITEM] == ABSENT) lay(g->type, 0, g->dim, q->type, at);
      else lay_product(g->type, user.vector, item, g->dim, q->type, at);
    }
    if (first[USER_CATEGORY] >= 0)
      lay(g->type, pair, g->category_dim, q->type, out + first[USER_CATEGORY] * number);

    if (q->statuses) memcpy(q->statuses + PARTS * row, status, PARTS);
    if (q->counts)
      for (int part = 0; part < PARTS; part++) q->counts[3 * part + status[part]]++;
    if (q->resolved) q->resolved[k] = has ? category : 0, q->has_resolved[k] = (uint8_t)has;
  }
  return FINE;
}
