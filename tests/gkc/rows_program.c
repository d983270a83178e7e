/* Lays the rows of gkc.rows._trial and prints the CRC-32 of what each element type gives: as the
   processor converts halves, then by plain loops. All lines are recorded in gkc/rows.py. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DIM = 21, ITEMS = 16, PAIRS = 8, ROWS = 18, WIDTH = 4 * DIM, F16 = 0, F32 = 1, INT8 = 2 };

/* Both structures of rows.c have fields of eight bytes only. */
typedef int64_t words[32];
int gkc_choose(int plain);
int gkc_lay_rows(const void *generation, const void *question, const uint8_t *records, int64_t from,
                 int64_t to);

static int64_t at(const void *memory) { return (int64_t)(uintptr_t)memory; }

static uint32_t crc32(uint32_t crc, const void *memory, size_t n) {
  const uint8_t *bytes = memory;
  crc = ~crc;
  for (size_t k = 0; k < n; k++) {
    crc ^= bytes[k];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

/* Write the items' vectors; return the bytes of each. */
static size_t write_vectors(int type, uint8_t *out) {
  size_t stored = type == F16 ? 2 * DIM : type == F32 ? 4 * DIM : 4 + DIM;
  for (uint32_t k = 0; k < ITEMS * DIM; k++) {
    uint32_t number = k * 2654435761u, single = (number & 0xBFFFFFFF) | 0x30000000;
    uint16_t half = number >> 16 & 0xBBFF;
    uint8_t *vector = out + k / DIM * stored;
    if (type == F16) memcpy(vector + 2 * (k % DIM), &half, 2);
    if (type == F32) memcpy(vector + 4 * (k % DIM), &single, 4);
    if (type == INT8) vector[4 + k % DIM] = (uint8_t)(number >> 24);
    float scale = (float)(k / DIM + 1);
    if (type == INT8) memcpy(vector, &scale, 4);
  }
  return stored;
}

static size_t write_record(const uint8_t *vectors, size_t stored, uint8_t *out) {
  uint32_t pairs = PAIRS;
  uint8_t *end = out + 8;
  memcpy(out + 4, &pairs, 4);
  memcpy(end, vectors, stored);
  end += (stored + 7) / 8 * 8;
  for (int64_t k = 0; k < PAIRS; k++, end += 8) memcpy(end, (int64_t[]){2 * k}, 8);
  for (size_t k = 0; k < PAIRS; k++, end += stored) memcpy(end, vectors + 2 * k * stored, stored);
  return (size_t)(end - out + 7) / 8 * 8;
}

static uint32_t try_type(int type) {
  static uint8_t vectors[ITEMS * 4 * DIM], record[ITEMS * 4 * DIM], answer[ROWS * WIDTH * 4];
  const uint32_t starts[] = {0, 8, ITEMS};
  int64_t ids[ITEMS], asked[ROWS], places[ROWS], user_index[ROWS];
  uint8_t has_category[ITEMS], status[ROWS][4];
  memset(record, 0, sizeof record);
  size_t stored = write_vectors(type, vectors);
  int64_t bytes = (int64_t)write_record(vectors, stored, record), offsets[] = {0, bytes, bytes};
  for (int k = 0; k < ITEMS; k++) ids[k] = k, has_category[k] = k % 3 > 0;
  for (int k = 0; k < ROWS; k++) asked[k] = k - 2, user_index[k] = k / 15;
  const words generation = {
      at(starts), at(ids), ITEMS, 63, type, DIM, DIM, at(ids), at(has_category), at(vectors),
      0, at(vectors + stored), at(vectors + 2 * stored), 3, 1};
  uint32_t crc = 0;
  for (int answered = F16; answered <= F32; answered++) {
    int64_t counts[12] = {0};
    const words question = {
        ROWS, ROWS, 0, at(asked), at(places), 0, 0, 0, 0, at(user_index), 2, at(offsets), bytes,
        0, DIM, 2 * DIM, 3 * DIM, WIDTH, answered, at(answer), at(status), at(counts)};
    if (gkc_lay_rows(generation, question, record, 0, ROWS)) return 0;
    crc = crc32(crc, answer, (size_t)ROWS * WIDTH * (answered == F16 ? 2 : 4));
    crc = crc32(crc, status, sizeof status);
    crc = crc32(crc, counts, sizeof counts);
  }
  return crc;
}

int main(void) {
  for (int plain = 0; plain < 2; plain++) {
    gkc_choose(plain);
    for (int type = F16; type <= INT8; type++) printf("%u\n", (unsigned)try_type(type));
  }
  return 0;
}
