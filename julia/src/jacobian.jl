# The Jacobian's stencil, by Enzyme. dR/du does not change through a linear solve: a few coloured
# sweeps give its entries once, and the iterations gather with them. The sweeps are forward ones:
# a reverse sweep through a threaded kernel scatters by atomic additions, and takes ten times as
# long for the same entries.

"""
    Linear(offsets, transposed)

The residual J v - source in one cell, or J' v - source, from the stored entries of J (see
`linearise!`).
"""
struct Linear{O,Transposed} end
Linear(offsets, transposed::Bool) = Linear{offsets,transposed}()
@inline function (::Linear{O,T})(v, c, I) where {O,T}
    return @inbounds gathered(-c.source[I...], v, c.entries, I, O, Val(T))
end

"r + sum_s entries_s(I) v(I + s); transposed, entries_s(I - s) v(I - s)"
@inline gathered(r, v, entries::Tuple{}, I, ::Tuple{}, ::Val) = r
@inline function gathered(r, v, entries::Tuple{Any,Vararg}, I, offsets, ::Val{T}) where {T}
    s = first(offsets)
    from, row = T ? (I .- s, I .- s) : (I .+ s, I)
    @inbounds r += first(entries)[row...] * v[from...]
    return gathered(r, v, Base.tail(entries), I, Base.tail(offsets), Val(T))
end

"""
    linearise!(sim)

Store J = dR/du at the state: `sim.jacobian[s][i] = dR[i] / du[i + s]` for each offset s of the
stencil.
"""
function linearise!(sim::Simulation)
    sim.linearised && return
    sweep!(sim)
    hold!(sim, lower(sim.model))
    exchange!(sim.topology, sim.jacobian...)
    sim.linearised = true
    return
end

"""
    sweep!(sim)

Store dR/du at the state, with R as if it had no bound; R itself is left in `sim.inverse`. No row
depends on two cells of one colour, so that one sweep along all of them tells an entry of every row.
"""
function sweep!(sim::Simulation)
    (; kernels, block, c, work) = sim
    (seed, swept), R = work, sim.inverse
    offsets = stencil(sim.model)
    weights, colors = coloring(offsets)
    everywhere = map(n -> 1:n, size(seed))  # neighbours' cells, too
    foreach(clear!, sim.jacobian)
    for color in 0:colors-1
        pick = Seed(weights, colors, color, block.offset)
        assemble!(kernels, everywhere, seed, nothing, pick)
        jvp_residual!(kernels, block.own, R, swept, sim.u[1], seed, c, raised(sim.model))
        assemble!(kernels, block.own, sim.jacobian, swept, Entries(pick, offsets))
    end
    return
end

"Turn the rows of dR/du into those of the `Bounded` residual: rows of the active set are diagonal."
hold!(sim, ::Nothing) = nothing
function hold!(sim::Simulation, bound::Bound)
    given = (; u=sim.u[1], r=sim.inverse)
    assemble!(sim.kernels, sim.block.own, sim.jacobian, given, Hold(bound))
    return
end

struct Hold
    bound::Bound
end
@inline function (hold::Hold)(entries, given, I)
    u, r = @inbounds given.u[I...], given.r[I...]
    bound, rate = oftype(u, hold.bound.value), oftype(u, hold.bound.rate)
    if r < rate * (bound - max(u, bound))
        diagonal!(entries, -rate, I)
    elseif u < bound
        @inbounds entries[1][I...] -= rate
    end
    return
end

"Keep only the diagonal entry of a row, the first."
@inline function diagonal!(entries, value, I)
    foreach(entry -> (@inbounds entry[I...] = 0), entries)
    @inbounds entries[1][I...] = value
    return
end

"""
    coloring(offsets)

Weights w and the smallest number p such that the cells `i + s` have different colours
`mod(w . i, p)` for all offsets s: 5 and 7 for a cell and its neighbours in 2-D and 3-D.
"""
function coloring(offsets::NTuple{S,NTuple{N,Int}}) where {S,N}
    for p in S:(S^2 + 1), w in Iterators.product(ntuple(_ -> 0:p-1, N)...)
        allunique(mod(sum(w .* s), p) for s in offsets) && return w, p
    end
    error("no colouring found")   # cannot be: p = (2 radius + 1)^N has one
end

"One in the cells of a colour, zero elsewhere."
struct Seed{N}
    weights::NTuple{N,Int}
    colors::Int
    color::Int
    offset::NTuple{N,Int}
end
@inline color_of(seed::Seed, I) = mod(sum(seed.weights .* (I .+ seed.offset)), seed.colors)
@inline function (seed::Seed)(field, _, I)
    @inbounds field[I...] = color_of(seed, I) == seed.color
    return
end

"Extraction of one entry of each row of dR/du from a sweep along one colour."
struct Entries{N,S}
    seed::Seed{N}
    colors::NTuple{S,Int}   # of the cell whose neighbour at each offset has the seed's colour
end
Entries(seed::Seed, offsets) =
    Entries(seed, map(s -> mod(seed.color - sum(seed.weights .* s), seed.colors), offsets))
@inline function (entries::Entries)(jacobian, swept, I)
    color = color_of(entries.seed, I)
    for (entry, wanted) in zip(jacobian, entries.colors)
        if color == wanted
            @inbounds entry[I...] = swept[I...]
        end
    end
    return
end

"""
    precondition!(sim, transposed) -> bound

Set `sim.inverse` to 1/PC = -1/diag(J), and return the Gershgorin bound max_i sum_j |J_ij| / |J_ii|
of J, or of J'.
"""
function precondition!(sim::Simulation, transposed::Bool)
    linearise!(sim)
    offsets = stencil(sim.model)
    rows = sim.work[1]
    assemble!(sim.kernels, sim.block.own, (; sim.inverse, rows), sim.jacobian,
              Rows(offsets, transposed, least_diagonal(sim.model)))
    exchange!(sim.topology, sim.inverse)
    bound, = peaks(sim, (abs, own(sim, rows)))
    return bound
end

struct Rows{O,Transposed,L}
    least::L
end
Rows(offsets, transposed::Bool, least) = Rows{offsets,transposed,typeof(least)}(least)
@inline function (rows::Rows{O,T})(out, entries, I) where {O,T}
    diagonal = at_least(rows.least, @inbounds entries[1][I...])   # the stencil begins with the cell itself
    @inbounds out.inverse[I...] = -1 / diagonal
    @inbounds out.rows[I...] = absolute(zero(diagonal), entries, I, O, Val(T)) / abs(diagonal)
    return
end
@inline at_least(::Nothing, diagonal) = diagonal
@inline at_least(least, diagonal) = min(diagonal, -oftype(diagonal, least))
@inline absolute(total, ::Tuple{}, I, ::Tuple{}, ::Val) = total
@inline function absolute(total, entries::Tuple{Any,Vararg}, I, offsets, ::Val{T}) where {T}
    at = T ? I .- first(offsets) : I
    @inbounds total += abs(first(entries)[at...])
    return absolute(total, Base.tail(entries), I, Base.tail(offsets), Val(T))
end
