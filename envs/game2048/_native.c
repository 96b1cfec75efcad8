/* The game of 2048 compiled: many boards at once, and whole games of the ladder's players.
 *
 * engine.py specifies the rules and the chance, players.py the players; this file plays the same
 * games bit for bit, and vector.py and make_ladder.py call it where it was built. A board is
 * size * size bytes, exponents in row-major order, 0 where empty. A 4x4 board is two words of 4-bit
 * exponents beside it, of its rows and of its columns, and a slide looks lines up in a table; a board
 * with a tile of 2**15 or more, where a merge could leave 4 bits, and a board of another size are
 * slid cell by cell.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define G 0x9E3779B97F4A7C15u
#define C1 0xBF58476D1CE4E5B9u
#define C2 0x94D049BB133111EBu
#define MAX_SIZE 15 /* the largest exponent, size * size + 1, fits a byte */
#define MAX_CELLS (MAX_SIZE * MAX_SIZE)

enum { UP, LEFT, DOWN, RIGHT };

/* ---- chance ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z, uint64_t add)
{
    z = (z ^ (z >> 30)) * C1 + add;
    z = (z ^ (z >> 27)) * C2;
    return z ^ (z >> 31);
}

typedef struct { uint64_t a, b; } Keys;

static Keys keys_of(uint64_t low, uint64_t high)
{
    Keys k;
    k.a = low + mix(high + G, 0);
    k.b = high + mix(k.a + G, 0);
    k.a += mix(k.b + G, 0);
    return k;
}

static uint32_t below(Keys k, uint64_t n, uint32_t m)
{
    uint64_t z = mix(k.a + (n / 2 + 1) * G, k.b);
    uint64_t product = (z >> (n & 1 ? 42 : 10) & 0x3FFFFF) * m;
    while ((product & 0x3FFFFF) < m && (product & 0x3FFFFF) < (1u << 22) % m) {
        z = mix(z + G, 0);
        product = (z >> 42) * m;
    }
    return (uint32_t)(product >> 22);
}

/* Spawns on a board whose cells are counted column by column, or row by row. */
static void spawn(uint8_t *cells, int size, int columns, Keys k, uint64_t n)
{
    int count = size * size, empty = 0, at = 0;
    for (int i = 0; i < count; i++)
        empty += cells[i] == 0;
    uint32_t number = below(k, n, 10 * (uint32_t)empty);
    for (int i = 0, left = (int)(number / 10); i < count; i++) {
        at = columns ? i % size * size + i / size : i;
        if (cells[at] == 0 && left-- == 0)
            break;
    }
    cells[at] = number % 10 ? 1 : 2;
}

/* ---- slides, cell by cell: any size, any tile ------------------------------------------------- */

static int64_t slide_line(uint8_t *line, int size, int stride)
{
    int64_t gain = 0;
    int to = 0, last = 0; /* where the next tile goes; the exponent that may still merge */
    for (int i = 0; i < size; i++) {
        int tile = line[i * stride];
        if (!tile)
            continue;
        line[i * stride] = 0;
        if (tile == last) {
            line[(to - 1) * stride] = (uint8_t)(tile + 1);
            gain += INT64_C(1) << (tile + 1);
            last = 0;
        } else {
            line[to++ * stride] = (uint8_t)tile;
            last = tile;
        }
    }
    return gain;
}

static int64_t slide_cells(uint8_t *cells, int size, int key)
{
    int64_t gain = 0;
    for (int i = 0; i < size; i++) {
        int first = key == LEFT ? i * size : key == UP ? i
                  : key == RIGHT ? i * size + size - 1 : (size - 1) * size + i;
        int stride = key == LEFT ? 1 : key == UP ? size : key == RIGHT ? -1 : -size;
        gain += slide_line(cells + first, size, stride);
    }
    return gain;
}

/* ---- 4x4: a board in two words, rows from a table --------------------------------------------- */

typedef struct { uint64_t top, bottom; } Board; /* two rows each, the first cell lowest */
typedef struct { uint32_t slid, gain; } Row; /* slid to the left, and 16 bits higher to the right */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WORDS 1
#else /* bytes lie in words the other way round: everything is slid cell by cell */
#define WORDS 0
#endif

static Row rows[1 << 16];
static uint8_t sides[1 << 16]; /* bit 0 if the row can move to the left, bit 1 if to the right */
static uint32_t falling[1 << 16], rising[1 << 16]; /* sums of tile * 4**(3, 2, 1, 0) and backwards */

static void fill_rows(void)
{
    for (int row = 0; row < 1 << 16; row++) {
        uint8_t line[4];
        rows[row].slid = falling[row] = rising[row] = 0;
        for (int i = 0; i < 4; i++) {
            uint32_t tile = (1u << (row >> 4 * i & 15)) & ~1u;
            falling[row] += tile << 2 * (3 - i);
            rising[row] += tile << 2 * i;
        }
        for (int side = 0; side < 2; side++) {
            for (int i = 0; i < 4; i++)
                line[i] = (uint8_t)(row >> 4 * (side ? 3 - i : i) & 15);
            int64_t gain = slide_line(line, 4, 1);
            int slid = 0;
            for (int i = 0; i < 4; i++)
                slid |= (line[i] & 15) << 4 * (side ? 3 - i : i);
            rows[row].slid |= (uint32_t)slid << 16 * side;
            rows[row].gain = (uint32_t)gain;
            sides[row] = (uint8_t)(sides[row] | (slid != row) << side);
        }
    }
}

static Board load(const uint8_t *cells)
{
    Board b;
    memcpy(&b, cells, 16);
    return b;
}

static int same(Board x, Board y) { return x.top == y.top && x.bottom == y.bottom; }

/* Whether some tile is 2**15 or more. */
static int large(Board b)
{
    uint64_t bit4 = (b.top | (b.top + 0x0101010101010101u)) | (b.bottom | (b.bottom + 0x0101010101010101u));
    return (bit4 & 0xF0F0F0F0F0F0F0F0u) != 0;
}

static uint64_t pack_half(uint64_t x)
{
    x = (x | x >> 4) & 0x00FF00FF00FF00FFu;
    x = (x | x >> 8) & 0x0000FFFF0000FFFFu;
    return (x | x >> 16) & 0x00000000FFFFFFFFu;
}

static uint64_t unpack_half(uint64_t x)
{
    x = (x | x << 16) & 0x0000FFFF0000FFFFu;
    x = (x | x << 8) & 0x00FF00FF00FF00FFu;
    return (x | x << 4) & 0x0F0F0F0F0F0F0F0Fu;
}

static uint64_t pack(Board b) { return pack_half(b.top) | pack_half(b.bottom) << 32; }

static Board unpack(uint64_t x)
{
    Board b = {unpack_half(x & 0xFFFFFFFFu), unpack_half(x >> 32)};
    return b;
}

static uint64_t transpose(uint64_t x)
{
    uint64_t t = (x ^ x >> 12) & 0x0000F0F00000F0F0u;
    x ^= t ^ t << 12;
    t = (x ^ x >> 24) & 0x00000000FF00FF00u;
    return x ^ t ^ t << 24;
}

/* A word after its rows slid to the left, or (back) to the right. */
static uint64_t slide_rows(uint64_t x, int back, int64_t *gain)
{
    uint64_t y = 0, sum = 0;
    for (int i = 0; i < 64; i += 16) {
        Row row = rows[x >> i & 0xFFFF];
        y |= (uint64_t)(row.slid >> 16 * back & 0xFFFF) << i;
        sum += row.gain;
    }
    *gain = (int64_t)sum;
    return y;
}

static Board slide(Board b, int key, int64_t *gain)
{
    if (WORDS && !large(b)) {
        uint64_t x = pack(b);
        if (key & 1)
            return unpack(slide_rows(x, key >> 1, gain));
        return unpack(transpose(slide_rows(transpose(x), key >> 1, gain)));
    }
    *gain = slide_cells((uint8_t *)&b, 4, key);
    return b;
}

/* ---- which moves are legal -------------------------------------------------------------------- */

/* Sets legal[key] to 0 or 1; returns whether one is. A line can move to a side if some tile has an
 * empty neighbour there or an equal one. */
static int legal_cells(const uint8_t *cells, int size, uint8_t *legal)
{
    memset(legal, 0, 4);
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            int here = cells[i * size + j];
            for (int column = 0; column < 2; column++) {
                if ((column ? i : j) + 1 == size)
                    continue;
                int next = cells[i * size + j + (column ? size : 1)];
                int equal = here && here == next;
                legal[column ? UP : LEFT] |= equal || (!here && next);
                legal[column ? DOWN : RIGHT] |= equal || (here && !next);
            }
        }
    return legal[0] | legal[1] | legal[2] | legal[3];
}

static unsigned movable(uint64_t x)
{
    return sides[x & 0xFFFF] | sides[x >> 16 & 0xFFFF] | sides[x >> 32 & 0xFFFF] | sides[x >> 48];
}

static int legal_words(uint64_t x, uint64_t transposed, uint8_t *legal)
{
    unsigned columns = movable(transposed), row = movable(x);
    legal[UP] = columns & 1, legal[LEFT] = row & 1;
    legal[DOWN] = columns >> 1 & 1, legal[RIGHT] = row >> 1 & 1;
    return (int)(columns | row);
}

static int find_legal(const uint8_t *cells, int size, uint8_t *legal)
{
    if (WORDS && size == 4 && !large(load(cells))) {
        uint64_t x = pack(load(cells));
        return legal_words(x, transpose(x), legal);
    }
    return legal_cells(cells, size, legal);
}

/* ---- a move and its spawn --------------------------------------------------------------------- */

/* Moves a board, spawns and finds what is legal next; -1 if nothing changed, else the score. */
static int64_t move_cells(uint8_t *cells, int size, int key, Keys k, uint64_t *spawns, uint8_t *legal)
{
    uint8_t before[MAX_CELLS];
    int count = size * size;
    memcpy(before, cells, (size_t)count);
    int64_t gain = slide_cells(cells, size, key);
    if (!memcmp(before, cells, (size_t)count))
        return -1;
    spawn(cells, size, !(key & 1), k, (*spawns)++);
    find_legal(cells, size, legal);
    return gain;
}

#define ONES UINT64_C(0x1111111111111111)
#define BYTES UINT64_C(0x0101010101010101)

/* The position of mark number n < 15 of a word that has more than n: after the multiplication cell
 * i holds the number of marks in cells 0 to i, and bytes leave room to compare them all with n. */
static unsigned nth_cell(uint64_t marks, uint64_t n)
{
    uint64_t count = marks * ONES, low = 0x0F * BYTES, high = 0x80 * BYTES, limit = (n + 1) * BYTES;
    uint64_t even = (((count & low) | high) - limit) & high;
    uint64_t odd = (((count >> 4 & low) | high) - limit) & high;
    return 16 - (unsigned)(((even >> 7) + (odd >> 7)) * BYTES >> 56);
}

typedef struct { uint64_t rows, columns; } Words; /* LARGE, LARGE where tiles do not fit */

#define LARGE UINT64_MAX

static Words words_of(const uint8_t *cells)
{
    Words w = {LARGE, LARGE};
    if (WORDS && !large(load(cells)))
        w.rows = pack(load(cells)), w.columns = transpose(w.rows);
    return w;
}

static int64_t move_words(uint8_t *cells, Words *words, int key, Keys k, uint64_t *spawns, uint8_t *legal)
{
    int64_t gain;
    /* The directions are chance to the processor: no branches on them. */
    uint64_t column = (uint64_t)(key & 1) - 1;
    uint64_t x = words->rows ^ ((words->rows ^ words->columns) & column);
    uint64_t y = slide_rows(x, key >> 1, &gain);
    if (x == y)
        return -1;
    uint64_t marks = y | y >> 2;
    marks = ~(marks | marks >> 1) & ONES;
    uint32_t number = below(k, (*spawns)++, 10 * (uint32_t)(marks * ONES >> 60));
    y |= (uint64_t)(number % 10 ? 1 : 2) << 4 * nth_cell(marks, number / 10);
    uint64_t turned = transpose(y), swap = (y ^ turned) & column;
    y ^= swap, turned ^= swap;
    Board b = unpack(y);
    memcpy(cells, &b, 16);
    legal_words(y, turned, legal);
    words->rows = y, words->columns = turned;
    if (gain >= 1 << 15) /* perhaps a tile of that size */
        *words = words_of(cells);
    return gain;
}

static int64_t move_board(uint8_t *cells, Words *words, int key, Keys k, uint64_t *spawns, uint8_t *legal)
{
    if (words->rows != LARGE)
        return move_words(cells, words, key, k, spawns, legal);
    return move_cells(cells, 4, key, k, spawns, legal);
}

/* ---- the players ------------------------------------------------------------------------------ */

static double snake_sum(Board b)
{
    static const uint8_t path[16] = {30, 28, 26, 24, 16, 18, 20, 22, 14, 12, 10, 8, 0, 2, 4, 6};
    const uint8_t *cells = (const uint8_t *)&b;
    int64_t sum = 0;
    for (int i = 0; i < 16; i++) /* at most 2**17 * 4**15 and less beside it */
        sum += (int64_t)(cells[i] != 0) << (cells[i] + path[i]);
    return (double)sum;
}

static double snake_words(uint64_t x)
{
    return (double)(((uint64_t)falling[x & 0xFFFF] << 24) + ((uint64_t)rising[x >> 16 & 0xFFFF] << 16)
                    + ((uint64_t)falling[x >> 32 & 0xFFFF] << 8) + rising[x >> 48]);
}

/* The best snake sum that one move gives, 0 if there is no move. */
static double best_snake(Board b)
{
    double best = 0.0;
    int64_t gain;
    if (!WORDS || large(b)) {
        for (int key = 0; key < 4; key++) {
            Board after = slide(b, key, &gain);
            double v = same(after, b) ? 0.0 : snake_sum(after);
            best = v > best ? v : best;
        }
        return best;
    }
    uint64_t x = pack(b), turned = transpose(x);
    for (int back = 0; back < 2; back++) {
        uint64_t row = slide_rows(x, back, &gain), column = slide_rows(turned, back, &gain);
        double v = row == x ? 0.0 : snake_words(row);
        best = v > best ? v : best;
        v = column == turned ? 0.0 : snake_words(transpose(column));
        best = v > best ? v : best;
    }
    return best;
}

static double expected(Board after, int depth);

static double value(Board b, int depth)
{
    double best = 0.0;
    if (depth == 1)
        return best_snake(b);
    for (int key = 0; key < 4; key++) {
        int64_t gain;
        Board after = slide(b, key, &gain);
        double v = same(after, b) ? 0.0 : expected(after, depth - 1);
        best = v > best ? v : best;
    }
    return best;
}

static double expected(Board after, int depth)
{
    double total = 0.0;
    int empty = 0;
    for (int i = 0; i < 16; i++) {
        uint8_t *cell = (uint8_t *)&after + i;
        if (*cell)
            continue;
        *cell = 1;
        double two = value(after, depth);
        *cell = 2;
        double four = value(after, depth);
        *cell = 0;
        total += 9.0 * two + four;
        empty++;
    }
    return total / (10.0 * empty);
}

enum { RANDOM, CYCLE, FIRST_LEGAL, CORNER, GREEDY, SNAKE, EXPECTIMAX_1, EXPECTIMAX_2, PLAYERS };

static int first_of(const int *order, const uint8_t *legal)
{
    while (!legal[*order])
        order++;
    return *order;
}

static int choose(int player, Board b, const uint8_t *legal, Keys k, uint64_t move)
{
    static const int wasd[8] = {UP, LEFT, DOWN, RIGHT, UP, LEFT, DOWN, RIGHT};
    static const int asdw[4] = {LEFT, DOWN, RIGHT, UP};
    if (player == RANDOM) {
        uint32_t left = below(k, move, (uint32_t)(legal[0] + legal[1] + legal[2] + legal[3]));
        int key = 0;
        while (!legal[key] || left--)
            key++;
        return key;
    }
    if (player == CYCLE)
        return first_of(wasd + move % 4, legal);
    if (player == FIRST_LEGAL || player == CORNER)
        return first_of(player == CORNER ? asdw : wasd, legal);
    int best_key = -1;
    double best = 0.0;
    for (int key = 0; key < 4; key++) {
        if (!legal[key])
            continue;
        int64_t gain;
        Board after = slide(b, key, &gain);
        double v = player == GREEDY ? (double)gain
                 : player == SNAKE ? snake_sum(after) : expected(after, player - EXPECTIMAX_1 + 1);
        if (best_key < 0 || v > best)
            best = v, best_key = key;
    }
    return best_key;
}

typedef struct { int64_t score; uint64_t moves; uint8_t cells[16]; char *keys; } Played;

/* Plays one game to its end; returns -1 if there is no memory for its keys. */
static int play_game(int player, uint64_t low, uint64_t high, Played *game)
{
    Keys k = keys_of(low, high), own = keys_of(~low, ~high);
    uint64_t spawns = 2, room = 0;
    uint8_t legal[4];
    spawn(game->cells, 4, 0, k, 0);
    spawn(game->cells, 4, 0, k, 1);
    find_legal(game->cells, 4, legal);
    Words words = words_of(game->cells);
    while (legal[0] | legal[1] | legal[2] | legal[3]) {
        if (game->moves == room) {
            char *more = realloc(game->keys, room = room ? 2 * room : 1024);
            if (!more)
                return -1;
            game->keys = more;
        }
        int key = choose(player, load(game->cells), legal, own, game->moves);
        game->score += move_board(game->cells, &words, key, k, &spawns, legal);
        game->keys[game->moves++] = "WASD"[key];
    }
    return 0;
}

/* ---- the Python side -------------------------------------------------------------------------- */

static int has(const Py_buffer *buffer, const char *name, Py_ssize_t bytes)
{
    if (buffer->len == bytes)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, wanted %zd", name, buffer->len, bytes);
    return 0;
}

static int size_is_good(int size)
{
    if (2 <= size && size <= MAX_SIZE)
        return 1;
    PyErr_Format(PyExc_ValueError, "size is from 2 to %d here, got %d", MAX_SIZE, size);
    return 0;
}

PyDoc_STRVAR(start_doc,
"start(size, which, seeds, cells, words, keys, spawns, legal)\n--\n\n"
"Starts new games at the 64-bit positions `which`, from two words of seed each. A game has two words\n"
"of board (4x4 only), two of keys, one count of spawns and four bytes of legal moves.");

static void start_one(Py_ssize_t i, int size, const uint64_t *seed, uint8_t *cells, Words *words, Keys *keys,
                     uint64_t *spawns, uint8_t *legal)
{
    uint8_t *board = cells + i * size * size;
    keys[i] = keys_of(seed[0], seed[1]);
    memset(board, 0, (size_t)(size * size));
    spawn(board, size, 0, keys[i], 0);
    spawn(board, size, 0, keys[i], 1);
    spawns[i] = 2;
    if (size == 4)
        words[i] = words_of(board);
    find_legal(board, size, legal + 4 * i);
}

static PyObject *start(PyObject *self, PyObject *args)
{
    Py_buffer which, seeds, cells, words, keys, spawns, legal;
    int size, good = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*y*w*w*w*w*w*", &size, &which, &seeds, &cells, &words, &keys, &spawns,
                          &legal))
        return NULL;
    Py_ssize_t n = spawns.len / 8, started = which.len / 8, count = (Py_ssize_t)size * size;
    if (size_is_good(size) && has(&which, "which", 8 * started) && has(&seeds, "seeds", 16 * started)
        && has(&cells, "cells", count * n) && has(&words, "words", size == 4 ? 16 * n : 0)
        && has(&keys, "keys", 16 * n) && has(&spawns, "spawns", 8 * n) && has(&legal, "legal", 4 * n)) {
        const int64_t *at = which.buf;
        good = 1;
        for (Py_ssize_t i = 0; i < started && good; i++)
            good = 0 <= at[i] && at[i] < n;
        if (!good)
            PyErr_Format(PyExc_IndexError, "a position is outside the %zd games", n);
        for (Py_ssize_t i = 0; i < started && good; i++)
            start_one((Py_ssize_t)at[i], size, (const uint64_t *)seeds.buf + 2 * i, cells.buf, words.buf,
                      keys.buf, spawns.buf, legal.buf);
    }
    PyBuffer_Release(&which), PyBuffer_Release(&seeds), PyBuffer_Release(&cells);
    PyBuffer_Release(&words), PyBuffer_Release(&keys), PyBuffer_Release(&spawns);
    PyBuffer_Release(&legal);
    if (!good)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(step_doc,
"step(size, actions, cells, words, keys, spawns, legal, gains)\n--\n\n"
"Moves every board by its action (a byte: 0 W, 1 A, 2 S, 3 D) and spawns where it changed; writes\n"
"the 64-bit merge score to gains, or -1 where nothing changed.");

static PyObject *step(PyObject *self, PyObject *args)
{
    Py_buffer actions, cells, words, keys, spawns, legal, gains;
    int size, good = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy*w*w*y*w*w*w*", &size, &actions, &cells, &words, &keys, &spawns, &legal,
                          &gains))
        return NULL;
    Py_ssize_t n = actions.len, count = (Py_ssize_t)size * size;
    if (size_is_good(size) && has(&cells, "cells", count * n)
        && has(&words, "words", size == 4 ? 16 * n : 0) && has(&keys, "keys", 16 * n) && has(&spawns, "spawns", 8 * n) && has(&legal, "legal", 4 * n) && has(&gains, "gains", 8 * n)) {
        const uint8_t *action = actions.buf;
        const Keys *k = keys.buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n; i++) {
            uint8_t *board = (uint8_t *)cells.buf + i * count;
            uint64_t *spawned = (uint64_t *)spawns.buf + i;
            uint8_t *mask = (uint8_t *)legal.buf + 4 * i;
            int key = action[i] & 3;
            ((int64_t *)gains.buf)[i] = size == 4
                ? move_board(board, (Words *)words.buf + i, key, k[i], spawned, mask)
                : move_cells(board, size, key, k[i], spawned, mask);
        }
        Py_END_ALLOW_THREADS
        good = 1;
    }
    PyBuffer_Release(&actions), PyBuffer_Release(&cells), PyBuffer_Release(&words);
    PyBuffer_Release(&keys), PyBuffer_Release(&spawns), PyBuffer_Release(&legal);
    PyBuffer_Release(&gains);
    if (!good)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(play_doc,
"play(player, low, high)\n--\n\n"
"Plays one 4x4 game to its end; the seed comes in two 64-bit halves and the player as its position\n"
"on the ladder. Returns the score, the exponent of the largest tile and the keys.");

static PyObject *play(PyObject *self, PyObject *args)
{
    int player, failed;
    unsigned long long low, high;
    Played game = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "iKK", &player, &low, &high))
        return NULL;
    if (player < 0 || player >= PLAYERS) {
        PyErr_Format(PyExc_ValueError, "player is from 0 to %d, got %d", PLAYERS - 1, player);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    failed = play_game(player, low, high, &game);
    Py_END_ALLOW_THREADS
    int top = 0;
    for (int i = 0; i < 16; i++)
        top = game.cells[i] > top ? game.cells[i] : top;
    PyObject *result = failed ? PyErr_NoMemory()
        : Py_BuildValue("Lis#", (long long)game.score, top, game.keys, (Py_ssize_t)game.moves);
    free(game.keys);
    return result;
}

static PyMethodDef methods[] = {
    {"play", play, METH_VARARGS, play_doc},
    {"start", start, METH_VARARGS, start_doc},
    {"step", step, METH_VARARGS, step_doc},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module)
{
    (void)module;
    fill_rows();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The compiled engine of 2048.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
